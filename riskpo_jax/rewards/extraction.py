"""Where in a response the final answer stands."""

from __future__ import annotations

import re

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)


def last_tagged(response: str) -> str | None:
    """The content of the last <answer>...</answer>, stripped; None when there is none."""
    contents = _TAGGED.findall(response)
    return contents[-1].strip() if contents else None


def last_boxed(response: str) -> str | None:
    r"""The content of the last \boxed{...} whose braces balance, stripped; None without one.

    Of nested boxes the inner one counts. An escaped brace (as in \{1, 2\}) does not.
    """
    last_start, content = -1, None
    opened: list[int] = []  # where each open brace's box begins, -1 for a plain brace
    for match in _BRACE.finditer(response):
        if match[0] == "}" and opened:
            start = opened.pop()
            if start > last_start:
                last_start, content = start, response[start : match.start()].strip()
        elif match["box"]:
            opened.append(match.end())
        elif match[0] == "{":
            opened.append(-1)
    return content


def last_line(response: str) -> str | None:
    """The last line that is not blank, stripped; None when there is none."""
    lines = response.strip().splitlines()
    return lines[-1].strip() if lines else None


def last_hashes(response: str) -> str | None:
    """What follows the last "####" on its line, stripped; None when there is none, or nothing."""
    marks = _HASHES.findall(response)
    return marks[-1].strip() or None if marks else None
