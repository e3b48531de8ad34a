"""What stands, on the trusted side, for things that live in the sandbox."""

from __future__ import annotations

from typing import Any, NoReturn

from riskpo_jax.rewards import wire
from riskpo_jax.rewards.sandbox_session import ProgramEnded, Session


class CannotSend(BaseException):
    """The tests are at fault, as by calling the program with what is no plain value. No `except
    Exception` of theirs hides it."""


class Remote:
    """A function, class or object of the program. It can be called, its attributes read, and it can be
    handed back in a later call; every other question has no answer that could be trusted."""

    __slots__ = ("_session", "_number")

    def __init__(self, session: Session, number: int):
        self._session, self._number = session, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = ["handle", self._number]
        data = ["tuple", [function, _encode(args), _encode(kwargs)]]
        return _ask(self._session, "call", data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ask(self._session, "attribute", self._number, name)

    def _no_value(self, *_: object) -> NoReturn:
        raise TypeError("the program returned an object that is no plain value")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_value
    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = _no_value
    __str__ = __repr__ = __format__ = __int__ = __float__ = __index__ = _no_value
    __hash__ = None  # type: ignore[assignment]


def load(session: Session, program: str) -> None:
    """Run the program's top level. Raises what it raises."""
    session.ask("load", program)


def lookup(session: Session, name: str) -> Any:
    """A global of the program: a plain value, or a Remote. Raises KeyError if it has none."""
    return _ask(session, "get", name)


def _ask(session: Session, operation: str, *content: Any) -> Any:
    value = session.ask(operation, *content)
    try:
        return wire.decode(value, lambda number: Remote(session, number))
    except wire.WireError:
        raise ProgramEnded("protocol") from None


def _encode(value: Any) -> Any:
    try:
        return wire.encode(value, _number)
    except wire.WireError as error:
        raise CannotSend(str(error)) from None


def _number(value: object) -> int:
    if isinstance(value, Remote):
        return value._number
    raise CannotSend(f"an argument is a {type(value).__name__}, which is no plain value")
