"""The sets of the paper and other well-known ones, by name: their files, how they are read and graded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from riskpo_jax.data import named_rows
from riskpo_jax.data.problem import Problem
from riskpo_jax.data.rows import Row, read_rows
from riskpo_jax.errors import UserError

BOXED = r"Let's think step by step and output the final answer within \boxed{}."
FUNCTION = "\n\nAnswer with the complete code, imports included, in one ```python block."
PROGRAM = (
    "\n\nAnswer with a complete Python program that reads standard input and writes standard output, "
    "in one ```python block."
)


@dataclasses.dataclass(frozen=True)
class NamedSet:
    """A set that is known by name.

    Attributes:
      files: its JSON Lines files in the data folder; all are needed.
      origin: where each of the files can be had, or what it is made of.
      parse: (row, "file:line", id of a row without one) -> the problem.
      reward, instruction: of every problem.
      keep: the rows of the files that belong to the set.
    """

    name: str
    files: tuple[str, ...]
    origin: str
    parse: Callable[[Row, str, str], Problem] = named_rows.math_problem
    reward: str = "math"
    instruction: str = BOXED
    keep: Callable[[Row], bool] = lambda row: True


def _code(name: str, file: str, origin: str, parse: Callable, **others) -> NamedSet:
    chosen = {"reward": "code", "instruction": FUNCTION} | others
    return NamedSet(name, (file,), origin, parse, **chosen)


_GSM8K = "grade_school_math/data/{}.jsonl of https://github.com/openai/grade-school-math"
_MATH = "prm800k/math_splits/{}.jsonl of https://github.com/openai/prm800k (git lfs)"
_MATH_TRAIN = (
    "the train part of MATH, https://github.com/hendrycks/math, one problem's object a line"
)
_MATH_REST = "the test part of MATH, https://github.com/hendrycks/math, without MATH-500"
_QWEN = "evaluation/data/{}/test.jsonl of https://github.com/QwenLM/Qwen2.5-Math"
_MBPP = "mbpp/mbpp.jsonl of https://github.com/google-research/google-research"
_RLLM = "the deepscaler and deepcoder data of https://github.com/agentica-project/rllm"

_SETS = (
    NamedSet("gsm8k", ("gsm8k_train.jsonl",), _GSM8K.format("train")),
    NamedSet("gsm8k_test", ("gsm8k_test.jsonl",), _GSM8K.format("test")),
    NamedSet("math", ("math_train.jsonl",), _MATH_TRAIN, named_rows.levelled_math_problem),
    NamedSet(
        "math_12k",
        ("math_train.jsonl", "math_test_rest.jsonl"),
        f"{_MATH_TRAIN}; {_MATH_REST}",
        named_rows.levelled_math_problem,
    ),
    NamedSet("math500", ("math500.jsonl",), _MATH.format("test"), named_rows.levelled_math_problem),
    NamedSet(
        "dapo_math_17k",
        ("dapo_math_17k.jsonl",),
        "the distinct rows of https://huggingface.co/datasets/BytedTsinghua-SIA/DAPO-Math-17k, as JSON",
    ),
    NamedSet(
        "aime_1983_2023",
        ("aime_1983_2023.jsonl",),
        _RLLM,
    ),
    NamedSet(
        "asdiv", ("asdiv_train.jsonl",), "https://github.com/chaochun/nlu-asdiv-dataset, as JSON"
    ),
    NamedSet("aime24", ("aime24.jsonl",), _QWEN.format("aime24")),
    NamedSet("aime25", ("aime25.jsonl",), "https://huggingface.co/datasets/math-ai/aime25"),
    NamedSet("amc23", ("amc23.jsonl",), _QWEN.format("amc23")),
    NamedSet("minerva", ("minerva.jsonl",), _QWEN.format("minerva_math")),
    NamedSet("olympiadbench", ("olympiadbench.jsonl",), _QWEN.format("olympiadbench")),
    _code(
        "mbpp",
        "mbpp.jsonl",
        _MBPP,
        named_rows.mbpp_problem,
        keep=lambda row: named_rows.mbpp_split(row) == "train",
    ),
    _code(
        "mbpp_test",
        "mbpp.jsonl",
        _MBPP,
        named_rows.mbpp_problem,
        keep=lambda row: named_rows.mbpp_split(row) == "test",
    ),
    _code(
        "humaneval",
        "humaneval.jsonl",
        "data/HumanEval.jsonl.gz of https://github.com/openai/human-eval, unpacked",
        named_rows.humaneval_problem,
    ),
    _code("leetcode", "leetcode_train.jsonl", _RLLM, named_rows.task_problem),
    _code("leetcode_test", "leetcode_test.jsonl", _RLLM, named_rows.task_problem),
    _code(
        "codeforces",
        "codeforces_stdio.jsonl",
        _RLLM,
        named_rows.task_problem,
        instruction=PROGRAM,
    ),
)
NAMED = {named.name: named for named in _SETS}
# Set of tensorflow-datasets that data/tfds_builders/ prepares -> split -> the named set that it is.
TFDS_SPLITS = {
    "gsm8k": {"train": "gsm8k", "test": "gsm8k_test"},
    "math": {"train": "math", "test": "math500"},
}


def absent(named: NamedSet, folder: Path) -> list[str]:
    """The set's files that are not in the folder."""
    return [file for file in named.files if not (folder / file).is_file()]


def read_named(named: NamedSet, folder: Path) -> list[Problem]:
    """The problems of a named set, in the order of its files.

    Raises:
      UserError: a file that is absent (with what to download and where to put it), or a row that is not
        one of this set, by file:line.
    """
    if missing := absent(named, folder):
        raise UserError(
            f"data set {named.name}: there is no {folder / missing[0]}: get {named.origin} and put it "
            "there, or say with --data.folder where it lies"
        )
    problems = []
    for file in named.files:
        path = folder / file
        rows = read_rows(path, "give another folder with --data.folder")
        for index, (place, row) in enumerate(rows):
            if named.keep(row):
                problem = named.parse(row, place, f"{path.stem}-{index}")
                problems.append(with_set(problem, named))
    if not problems:
        raise UserError(f"data set {named.name}: {path} holds none of its problems")
    return problems


def with_set(problem: Problem, named: NamedSet) -> Problem:
    """The problem with what its set says: the name, the reward and how to answer."""
    return dataclasses.replace(
        problem, dataset=named.name, reward=named.reward, instruction=named.instruction
    )
