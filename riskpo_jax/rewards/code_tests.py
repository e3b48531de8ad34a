"""Runs a problem's tests on the trusted side against a program in a sandbox.

Asserts run here, as they are written, on plain values; only arguments go in. `assert f(2) == 4` sends
f and 2, and compares what comes back with 4 here. So a program can pass by returning the right
values, and by nothing else.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

from riskpo_jax.rewards import remote
from riskpo_jax.rewards.program import joined
from riskpo_jax.rewards.remote import CannotSend
from riskpo_jax.rewards.sandbox_session import ProgramEnded, Session
from riskpo_jax.rewards.suite import Suite, imports_for, test_globals

_RECORD = "__record__"


@dataclass
class Tally:
    """Which of `total` tests passed and failed; `reason` says in a word why not all passed.

    A test is an assert as it stands in the text, or a pair of input and output: one that is executed
    often passes if it does each time, so that a value that makes a loop longer earns nothing.
    """

    total: int
    passed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    reason: str = ""

    @property
    def correct(self) -> bool:
        """Tests were run, to their end, and all that were run passed."""
        return bool(self.passed) and not self.failed and not self.reason

    @property
    def fraction(self) -> float:
        """Of the tests that passed; below 1 unless `correct`. What was never reached has failed."""
        passed = len(self.passed - self.failed)
        return 1.0 if self.correct else passed / max(self.total, passed + 1)


class _Enough(BaseException):
    """A test failed, and that is all that one wants to know."""


class _Recorder:
    """`with recorder(i):` around an assert notes how it ended, and goes on after it."""

    def __init__(self, tally: Tally, stop_early: bool):
        self.tally, self.stop_early = tally, stop_early

    @contextlib.contextmanager
    def __call__(self, index: int) -> Iterator[None]:
        try:
            yield
            self.tally.passed.add(index)
        except CannotSend:
            raise
        except BaseException as error:
            self.tally.failed.add(index)
            if not isinstance(error, Exception):
                raise
            self.tally.reason = self.tally.reason or type(error).__name__
            if self.stop_early:
                raise _Enough from None


def run_asserts(suite: Suite, program: str, session: Session, stop_early: bool) -> Tally:
    """Run the tests to their end, or with `stop_early` to the first failure.

    Raises CannotSend where the tests are no calls with plain values, or do not run at all.
    """
    code, total = _recording(suite.tests)
    tally = Tally(total)
    namespace = test_globals(suite)
    random.seed(suite.tests)  # the same program gets the same verdict again
    _set_up(suite, namespace)
    try:
        remote.load(session, _with_imports(suite, program))
        _bind(suite, session, namespace)
        namespace[_RECORD] = _Recorder(tally, stop_early)
        exec(code, namespace)
    except _Enough:
        pass
    except ProgramEnded as ended:
        tally.reason = str(ended)
    except Exception as error:  # raised by the program outside of an assert
        tally.reason = tally.reason or type(error).__name__
    if not (tally.passed or tally.failed or tally.reason):
        raise CannotSend("the tests ran no assert")
    return tally


def _set_up(suite: Suite, namespace: dict[str, Any]) -> None:
    try:
        exec(suite.setup, namespace)
    except Exception as error:
        raise CannotSend(f"the setup code fails: {error}") from error


def run_pairs(suite: Suite, program: str, start: Callable[[], Session], stop_early: bool) -> Tally:
    """One run of the whole program for each pair; what it prints must have the expected tokens.

    Pairs after one that exceeds the time are not run, and have failed.
    Tokens are what white space separates, and are compared as text: 1.0 is not 1.
    """
    tally = Tally(len(suite.pairs))
    for index, (given, expected) in enumerate(suite.pairs):
        with start() as session:
            try:
                output = session.run_main(program, given)
                reason = "" if output.split() == expected.split() else "output"
            except ProgramEnded as ended:
                reason = str(ended)
        (tally.failed if reason else tally.passed).add(index)
        tally.reason = tally.reason or reason
        if reason and (stop_early or reason == "time"):  # it would take as long each time
            break
    return tally


def _with_imports(suite: Suite, program: str) -> str:
    return joined(imports_for(program) + "\n", program) if suite.imported else program


def _bind(suite: Suite, session: Session, namespace: dict[str, Any]) -> None:
    """Gives the names of the suite what the program defines.

    What it does not define, the tests will miss: no builtin or beginning in the prompt stands in for it.
    """
    others = {name: value for name, value in vars(builtins).items() if name not in suite.names}
    namespace["__builtins__"] = others
    for name in suite.names:
        namespace.pop(name, None)
        with contextlib.suppress(KeyError):
            namespace[name] = remote.lookup(session, name)


class _Wrap(ast.NodeTransformer):
    """Puts `with __record__(i):` around each assert, but not around `assert True`."""

    def __init__(self) -> None:
        self.count = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        if isinstance(node.test, ast.Constant) and node.test.value:
            return ast.copy_location(ast.Pass(), node)
        call = ast.Call(ast.Name(_RECORD, ast.Load()), [ast.Constant(self.count)], [])
        self.count += 1
        return ast.copy_location(ast.With([ast.withitem(call)], [node]), node)


@lru_cache(maxsize=1024)
def _recording(tests: str) -> tuple[CodeType, int]:
    """The tests with every assert recorded, and how many there are."""
    wrap = _Wrap()
    tree = ast.fix_missing_locations(wrap.visit(ast.parse(tests)))
    return compile(tree, "<tests>", "exec"), wrap.count
