"""Which program a response holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskpo_jax.rewards.program import choose, fingerprint, last_blocks, last_defining, parse

PROMPT = 'import math\n\ndef helper(x):\n    return x + 1\n\n\ndef f(x):\n    """Squares."""\n'
BEFORE = "import math\n\ndef helper(x):\n    return x + 1\n\n\n"
BODY = "    return x * x\n"
WHOLE = "def f(x):\n    return x * x\n"


@pytest.mark.parametrize(
    ("response", "block"),
    [
        ("no block", None),
        ("a\n```python\nx = 1\n```\nb", "x = 1\n"),
        ("```py\nx = 1\n```\n```python3\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\noutput:\n```\n1\n```", "x = 1\n"),  # a block of Python comes first
        ("```\nx = 1\n```\n```text\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n", "x = 1\n"),  # cut off
        ("```python\nx = 1\n\nAgain:\n```python\nx = 2\n```", "x = 2\n"),  # the first never ended
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("- a list\n  ```python\n  x = 1\n  ```", "  x = 1\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("```Python\r\nx = 1\r\n```", "x = 1\r\n"),
        ("```python", ""),
    ],
)
def test_last_block(response, block):
    assert last_blocks(response)[-1:] == ([] if block is None else [block])


@given(st.text(alphabet="`~pyx \n"))
def test_last_blocks_take_any_text(response):
    assert all(block in response for block in last_blocks(response))


@pytest.mark.parametrize("bomb", ["`" * 10**6, " " * 10**6, "```\n" * 250_000, "```p\n" * 200_000])
def test_last_blocks_are_quick_on_a_megabyte(bomb):
    assert len(last_blocks(bomb)) <= 8


def test_an_example_of_use_may_follow_the_program():
    programs = ["def f(x):\n    return 0\n", WHOLE, "print(f(3))\n"]
    response = "\nBetter:\n".join(f"```python\n{program}```" for program in programs)
    blocks = last_blocks(response)
    assert len(blocks) == 3 and last_defining(blocks, ["f"]) == WHOLE
    assert last_defining(blocks, ["g"]) == last_defining(blocks, []) == "print(f(3))\n"


@pytest.mark.parametrize(
    ("text", "fenced", "prompt", "program"),
    [
        (WHOLE, True, "", WHOLE),
        ("  def f(x):\n    return x * x\n", True, "", WHOLE.replace("    ", "  ")),  # in a list
        (
            "from __future__ import annotations\n" + WHOLE,
            True,
            PROMPT,
            "from __future__ import annotations\n" + BEFORE + WHOLE,
        ),
        (WHOLE, False, "", WHOLE),
        (WHOLE, False, PROMPT, BEFORE + WHOLE),
        (PROMPT + BODY, True, PROMPT, BEFORE + PROMPT + BODY),
        (BODY, False, PROMPT, PROMPT + BODY),
        (BODY, True, PROMPT, PROMPT + BODY),
        (BODY + "\nprint(f(2)) and then prose", False, PROMPT, PROMPT + BODY + "\n"),
        ("I do not know.", False, PROMPT, None),
        ("I do not know.", False, "", None),
        ("g = 1", False, "", None),
        ("g = 1", True, "", "g = 1"),  # an answer, if a wrong one
        ("def f(x) return", True, "", "def f(x) return"),
        ("x = 1\n" * 20_000, False, "", None),
    ],
)
def test_choose(text, fenced, prompt, program):
    assert choose(text, fenced, prompt, ["f"]) == program


def test_a_whole_program_must_do_something():
    assert choose("print(input())", False, "", []) == "print(input())"
    assert choose("Yes", False, "", []) is None


def test_a_program_that_is_too_long_does_not_parse():
    assert parse(choose("x = 1\n" * 20_000, True, "", ["f"])) is None


@pytest.mark.parametrize(
    "bomb", ["(" * 60_000, "-" * 60_000 + "1", "a" + ".b" * 30_000, "\0", "[" * 99]
)
def test_no_text_harms_the_parser(bomb):
    fingerprint(f"f = {bomb}")
    parse(f"f = {bomb}")


def test_fingerprints_ignore_comments_and_layout():
    same = [WHOLE, "def f(x): # hm\n\n  return (x*x)\n"]
    assert fingerprint(same[0]) == fingerprint(same[1]) != fingerprint("def f(x):\n    return x\n")
