"""Runs a problem's tests on the trusted side against a program in a sandbox.

Asserts run here, as they are written, on plain values; only arguments go in. `assert f(2) == 4` sends
f and 2, and compares what comes back with 4 here. So a program can pass by returning the right
values, and by nothing else.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

from riskpo_jax.rewards import remote
from riskpo_jax.rewards.remote import CannotSend
from riskpo_jax.rewards.sandbox_session import ProgramEnded, Session
from riskpo_jax.rewards.suite import Suite, imports_for, test_globals

_RECORD = "__record__"


@dataclass
class Tally:
    """How many tests passed, of how many; `reason` says in a word why not all."""

    passed: int = 0
    failed: int = 0
    reached: set[int] = field(default_factory=set)
    reason: str = ""

    @property
    def correct(self) -> bool:
        """All that was to be run has run and passed."""
        return self.passed > 0 and self.failed == 0 and not self.reason

    @property
    def fraction(self) -> float:
        """Below 1 unless `correct`."""
        failed = self.failed if self.correct else max(1, self.failed)
        return self.passed / (self.passed + failed)


class _Enough(BaseException):
    """A test failed, and that is all that one wants to know."""


class _Recorder:
    """`with recorder(i):` around an assert counts it and goes on after it."""

    def __init__(self, tally: Tally, stop_early: bool):
        self.tally, self.stop_early = tally, stop_early

    def __call__(self, index: int) -> _Recorder:
        self.tally.reached.add(index)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> bool:
        if isinstance(error, CannotSend):
            return False
        self.tally.passed += kind is None
        self.tally.failed += kind is not None
        if error is None or not isinstance(error, Exception):
            return False
        self.tally.reason = self.tally.reason or type(error).__name__
        if self.stop_early:
            raise _Enough
        return True


def run_asserts(suite: Suite, program: str, session: Session, stop_early: bool) -> Tally:
    """Every assert that is executed counts as a test, and every one that is never reached as failed.

    `stop_early` ends at the first failure. Raises CannotSend where a test is no call with plain values.
    """
    code, asserts = _recording(suite.tests)
    tally = Tally()
    namespace = test_globals(suite)
    random.seed(suite.tests)  # the same program gets the same verdict again
    exec(suite.setup, namespace)
    try:
        remote.load(session, _with_imports(suite, program))
        namespace |= _looked_up(suite, session)
        namespace[_RECORD] = _Recorder(tally, stop_early)
        exec(code, namespace)
    except _Enough:
        pass
    except ProgramEnded as ended:
        tally.reason = str(ended)
    except CannotSend:
        raise
    except Exception as error:  # raised by the program outside of an assert
        tally.reason = tally.reason or type(error).__name__
        tally.failed += 1
    if tally.reason:
        tally.failed += len(asserts - tally.reached)
    elif not tally.passed + tally.failed:
        raise CannotSend("the tests ran no assert")
    return tally


def run_pairs(suite: Suite, program: str, start: Callable[[], Session], stop_early: bool) -> Tally:
    """One run of the whole program for each pair; what it prints must have the expected tokens.

    Tokens are what white space separates, and are compared as text: 1.0 is not 1.
    """
    tally = Tally()
    for given, expected in suite.pairs:
        with start() as session:
            try:
                output = session.run_main(program, given)
                reason = "" if output.split() == expected.split() else "output"
            except ProgramEnded as ended:
                reason = str(ended)
        tally.passed += not reason
        tally.failed += bool(reason)
        tally.reason = tally.reason or reason
        if reason and stop_early:
            break
    return tally


def _with_imports(suite: Suite, program: str) -> str:
    imports = imports_for(program) if suite.imported else ""
    return f"{imports}\n{program}" if imports else program


def _looked_up(suite: Suite, session: Session) -> dict[str, Any]:
    """What the program does not define, the tests will miss."""
    found = {}
    for name in suite.names:
        try:
            found[name] = remote.lookup(session, name)
        except KeyError:
            continue
    return found


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
def _recording(tests: str) -> tuple[CodeType, frozenset[int]]:
    wrap = _Wrap()
    tree = ast.fix_missing_locations(wrap.visit(ast.parse(tests)))
    return compile(tree, "<tests>", "exec"), frozenset(range(wrap.count))
