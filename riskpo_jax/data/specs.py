"""How a data set is written in --data.sets and --eval.datasets: a name, or kind:what."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from riskpo_jax.data.countdown import NUMBERS_PER_LEVEL
from riskpo_jax.data.named import NAMED, TFDS_SPLITS
from riskpo_jax.errors import UserError

# kind -> how what follows it is written.
KINDS = {
    "jsonl": "jsonl:FILE",
    "tfds": "tfds:NAME[:SPLIT]",
    "datasets": "datasets:WHERE[[:CONFIG]:SPLIT]",
    "reasoning_gym": "reasoning_gym:TASK",
    "countdown": "countdown[:LEVEL]",
}
PROCEDURAL = ("countdown", "reasoning_gym")  # kinds whose problems are drawn, not read


@dataclass(frozen=True)
class Spec:
    """A data set: its kind ("named" or one of `KINDS`) and what follows, split at the colons."""

    kind: str
    what: tuple[str, ...]

    @property
    def reward(self) -> str:
        """What grades its problems, known without loading them; "" where the set does not say."""
        if self.kind == "named":
            return NAMED[self.what[0]].reward
        return {"tfds": "math", **{kind: kind for kind in PROCEDURAL}}.get(self.kind, "")

    def __str__(self) -> str:
        return ":".join(self.what if self.kind == "named" else (self.kind, *self.what))


def parse_spec(text: str, flag: str) -> Spec:
    """The set that one item of `flag` names.

    Raises:
      UserError: an unknown name (with close ones) or a kind that is written differently.
    """
    kind, colon, rest = text.partition(":")
    if kind == "jsonl" and rest:  # a path may have colons
        return Spec(kind, (rest,))
    what = tuple(rest.split(":")) if colon else ()
    if kind == "countdown" and (not what or (len(what) == 1 and what[0] in NUMBERS_PER_LEVEL)):
        return Spec(kind, what)
    allowed = {"tfds": (1, 2), "datasets": (1, 2, 3), "reasoning_gym": (1,)}.get(kind, ())
    if len(what) in allowed and all(what):
        if kind != "tfds" or what[0] in TFDS_SPLITS:
            return Spec(kind, what)
        raise UserError(f"--{flag}: {text}: tfds has {' and '.join(TFDS_SPLITS)}")
    if kind in KINDS:
        hint = f", LEVEL one of {', '.join(NUMBERS_PER_LEVEL)}" if kind == "countdown" else ""
        raise UserError(f"--{flag}: {text!r} must be written {KINDS[kind]}{hint}")
    if text in NAMED:
        return Spec("named", (text,))
    close = difflib.get_close_matches(text, [*NAMED, *KINDS], n=3)
    raise UserError(
        f"--{flag}: unknown data set {text!r}"
        + (f" (close: {', '.join(close)})" if close else "")
        + f": use one of {', '.join(NAMED)}, or {', '.join(KINDS.values())}"
    )
