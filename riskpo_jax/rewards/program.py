"""The program in a response."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
import warnings

MAX_LENGTH = 64 * 1024  # characters of a program
MAX_BLOCKS = 8  # of a response, from its end, are looked at

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n]*$", re.MULTILINE)
_PYTHON = {"python", "python3", "py", "py3"}
_FUTURE = re.compile(r"^from __future__ import [\w ,]+$\n?", re.MULTILINE)


def last_blocks(response: str) -> list[str]:
    """The contents of the last fenced blocks of Python in their order, else of the last blocks.

    A block that never ends reaches to the end of the response. Linear in the response's length.
    """
    blocks: dict[bool, list[str]] = {True: [], False: []}
    opened: tuple[int, str, bool] | None = None  # where the content begins, the fence, is it Python
    for fence in _FENCE.finditer(response):
        if (
            opened is None or fence[2]
        ):  # a block with a name begins anew, if the last was never closed
            opened = (fence.end() + 1, fence[1], fence[2].lower() in _PYTHON)
        elif fence[1].startswith(opened[1]):
            blocks[opened[2]].append(response[opened[0] : fence.start()])
            opened = None
    if opened is not None:
        blocks[opened[2]].append(response[opened[0] :])
    return (blocks[True] or blocks[False])[-MAX_BLOCKS:]


def last_defining(texts: list[str], names: list[str]) -> str:
    """The last text that defines one of `names`, which examples of its use may follow; else the last."""
    short = (text for text in reversed(texts) if len(text) <= MAX_LENGTH)
    return next((t for t in short if names and defines(textwrap.dedent(t), names)), texts[-1])


def choose(text: str, fenced: bool, prompt: str, names: list[str]) -> str | None:
    """The program to run: the text, or what it completes; None when it holds no program.

    The text must define one of `names` (functions, classes, variables), or, without names, do
    something. Where `prompt` is not "" (HumanEval's: imports, helpers, a function without a body),
    what stands before that function goes first, or else the text continues the prompt. A fenced block
    is an answer in any case, if only a wrong one.
    """
    text = text.replace("\r\n", "\n").replace("\t", "    ") if "\r" in text else text
    if len(text) > MAX_LENGTH:
        return text[:MAX_LENGTH] + "\n(" if fenced else None  # does not parse
    for whole in (text, textwrap.dedent(text)):  # a block in a list is indented
        if defines(whole, names):
            return joined(_preamble(prompt, names), whole)
    if prompt:
        for body in (text, _continuation(text)):
            if defines(prompt + body, names) and body.strip():
                return prompt + body
    return joined(_preamble(prompt, names), text) if fenced else None


def defines(source: str, names: list[str]) -> bool:
    tree = parse(source)
    if tree is None:
        return False
    if not names:
        return any(
            isinstance(node, ast.Call | ast.Import | ast.ImportFrom) for node in ast.walk(tree)
        )
    return not defined_names(tree).isdisjoint(names)


def parse(source: str) -> ast.Module | None:
    """None for what is no Python, or too deep to be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def defined_names(tree: ast.Module) -> set[str]:
    """What a module defines at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names | imported_names(tree)


def imported_names(tree: ast.Module) -> set[str]:
    """What a module imports at its top level."""
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def fingerprint(program: str) -> str:
    """Equal for programs that differ in comments and layout only."""
    tree = parse(program)
    try:
        text = program if tree is None else ast.dump(tree)
    except RecursionError:
        text = program
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def joined(before: str, program: str) -> str:
    """A program with something before it, but after its imports from __future__, which must come first."""
    if not before:
        return program
    return "".join(_FUTURE.findall(program)) + before + _FUTURE.sub("", program)


def _preamble(prompt: str, names: list[str]) -> str:
    """What a prompt has before the function to be written."""
    tree = parse(prompt)
    for node in reversed(tree.body if tree else []):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            return "".join(prompt.splitlines(keepends=True)[: node.lineno - 1])
    return ""


def _continuation(text: str) -> str:
    """The lines up to the first that is not indented: where a function's body ends."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if i and line[:1].strip()), len(lines))
    return "\n".join(lines[:end]) + "\n"
