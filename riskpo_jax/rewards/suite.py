"""The tests of a problem, read from its metadata."""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.program import defined_names, imported_names, parse

MODULES = (
    "math collections heapq bisect itertools functools string re random operator sys datetime copy"
).split()  # tests may use them without importing them
_STARRED = "typing collections heapq bisect itertools functools math operator string".split()


@dataclass(frozen=True)
class Suite:
    """Asserts about `names` of the program, or pairs of input and output of a whole program.

    `setup` and `tests` are Python that runs on the trusted side, where `names` stand for what the
    program defines. `prompt` is a beginning that a program may continue. `imported`: the program finds
    the names that LeetCode imports for it.
    """

    names: tuple[str, ...] = ()
    setup: str = ""
    tests: str = ""
    prompt: str = ""
    imported: bool = False
    pairs: tuple[tuple[str, str], ...] = ()


def suite_of(problem: Problem) -> Suite:
    """Raises ValueError, in words, for a problem without tests or whose tests are no calls."""
    metadata = problem.metadata
    if "test_list" in metadata:
        suite = _mbpp(metadata)
    elif "entry_point" in metadata:
        suite = _humaneval(metadata)
    elif "test" in metadata:
        suite = Suite(names=("Solution",), tests=_text(metadata, "test"), imported=True)
    elif "tests" in metadata:
        return _pairs(metadata["tests"])
    else:
        raise ValueError("no tests: metadata has none of test_list, entry_point, test, tests")
    _check(suite)
    return suite


def unsupported(problem: Problem) -> str | None:
    """Why a problem's tests cannot be turned into calls, None where they can."""
    try:
        suite_of(problem)
    except ValueError as error:
        return str(error)
    return None


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key) or ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value.replace("\r\n", "\n")


def _mbpp(metadata: Mapping[str, Any]) -> Suite:
    """The names that the asserts use and nothing else defines, even where a builtin has that name."""
    listed = metadata["test_list"]
    if not (isinstance(listed, Sequence) and listed and all(isinstance(t, str) for t in listed)):
        raise ValueError("test_list is no list of texts")
    tests = "\n".join(listed).replace("\r\n", "\n")
    setup = _text(metadata, "test_setup_code")
    reference = parse(_text(metadata, "code")) or ast.Module([], [])
    imported = imported_names(reference) - set(MODULES)
    own = defined_names(reference) - imported - set(MODULES)
    used = loaded_names(tests) - stored_names(setup + "\n" + tests)
    if unbound := used & imported:
        raise ValueError(
            f"the tests use {', '.join(sorted(unbound))}, which only the reference imports"
        )
    names = {name for name in used if name in own or not _is_known(name)}
    return Suite(names=tuple(sorted(names)), setup=setup, tests=tests)


def _humaneval(metadata: Mapping[str, Any]) -> Suite:
    entry, prompt = _text(metadata, "entry_point"), _text(metadata, "prompt")
    tests = f"{_text(metadata, 'test')}\ncheck({entry})\n"
    return Suite(names=(entry,), setup=prompt, tests=tests, prompt=prompt)


def _pairs(tests: Any) -> Suite:
    try:
        pairs = tuple((test["input"], test["output"]) for test in tests)
    except (TypeError, KeyError):
        raise ValueError("tests is no list of {input, output}") from None
    if not pairs or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise ValueError("tests is no list of pairs of texts")
    return Suite(pairs=pairs)


def _check(suite: Suite) -> None:
    for name, source in (("setup", suite.setup), ("tests", suite.tests)):
        if parse(source) is None:
            raise ValueError(f"the {name} code is no Python")
    unknown = {
        name
        for name in loaded_names(suite.setup) - stored_names(suite.setup)
        if not _is_known(name)
    }
    if unknown:
        raise ValueError(
            f"the setup code needs {', '.join(sorted(unknown))}, which nothing defines"
        )
    if not suite.names or loaded_names(suite.tests).isdisjoint(suite.names):
        raise ValueError("the tests call nothing of the program")
    if not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(suite.tests))):
        raise ValueError("the tests assert nothing")


def _is_known(name: str) -> bool:
    return hasattr(builtins, name) or name in MODULES


def loaded_names(source: str) -> set[str]:
    tree = parse(source) or ast.Module([], [])
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def stored_names(source: str) -> set[str]:
    """Every name that is bound somewhere, in whatever scope."""
    names: set[str] = set()
    for node in ast.walk(parse(source) or ast.Module([], [])):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


def test_globals(suite: Suite) -> dict[str, Any]:
    """Names that the trusted side offers to tests."""
    modules = {name: importlib.import_module(name) for name in MODULES}
    homes = _homes() if suite.imported else {}
    starred = {name: getattr(sys.modules[home], name) for name, home in homes.items()}
    return {"__name__": "tests", **starred, **modules}


def imports_for(program: str) -> str:
    """A first line with the imports that LeetCode makes and that the program uses.

    LeetCode imports every name of a dozen modules; only those used are worth the time. A builtin
    comes before a starred name (pow takes three arguments). One line, or none.
    """
    used = loaded_names(program)
    modules = [f"import {name}" for name in MODULES if name in used]
    starred = [f"from {home} import {name}" for name, home in _homes().items() if name in used]
    return "; ".join([*modules, *starred])


@cache
def _homes() -> dict[str, str]:
    """The module of each name that a star import brings: of the last one, as if in that order."""
    homes = {}
    for home in _STARRED:
        module = importlib.import_module(home)
        public = getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])
        homes |= {name: home for name in public if not hasattr(builtins, name)}
    return homes
