"""Rows of the well-known sets as problems: in the fields of our files, and as their makers publish them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.rows import Row, text_of
from riskpo_jax.errors import UserError

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# What the makers of DAPO-Math-17k put around every problem.
_DAPO_OPENING = re.compile(r"\ASolve the following math problem step by step\.[^\n]*\n+")
_DAPO_ENDING = re.compile(r'\n+Remember to put your answer on its own line after "Answer:"\.\s*\Z')


def math_problem(row: Row, place: str, unnamed: str) -> Problem:
    r"""A mathematical problem.

    The statement is the field problem, question or prompt (a text or a chat). The answer is the first of
    answer, final_answer, expected_answer, the ground truth of reward_model and the last \boxed{} of the
    solution; of an answer that ends in "#### 18" (GSM8K) the number alone.
    """
    row = _lower_cased(row)
    text = row.get("problem", row.get("question", row.get("prompt")))
    if isinstance(text, list) and text and isinstance(text[-1], Mapping):  # a chat
        text = text[-1].get("content")
    text = text_of({"problem": text}, "problem", place)
    text = _DAPO_ENDING.sub("", _DAPO_OPENING.sub("", text))
    answer, solution = _answer(row, place)
    used = {"id", "problem", "question", "prompt", "answer", "final_answer", "expected_answer"}
    metadata = {k: v for k, v in row.items() if k not in used | {"reward_model", "solution"}}
    if solution:
        metadata["solution"] = solution
    return Problem(_id(row, unnamed), text, answer, "", metadata=metadata | _olympiad(row))


def levelled_math_problem(row: Row, place: str, unnamed: str) -> Problem:
    """A problem of MATH: as `math_problem`, with level "1" to "5" ("" when unrated)."""
    problem = math_problem(row, place, unnamed)
    metadata = dict(problem.metadata)
    level = re.sub(r"\D", "", str(metadata.pop("level", "")))
    level = level if level in set("12345") else ""
    if "type" in metadata:
        metadata["subject"] = metadata.pop("type")
    return Problem(problem.id, problem.text, problem.answer, "", level, metadata)


def mbpp_problem(row: Row, place: str, unnamed: str) -> Problem:
    """A task of MBPP. The first test is shown, for the function's name and arguments; the others are not."""
    description = text_of(row, "text" if "text" in row else "prompt", place)
    tests = row.get("test_list")
    if not isinstance(tests, list) or not tests or not all(isinstance(t, str) for t in tests):
        raise UserError(f"{place}: the field 'test_list' must be a list of asserts")
    imports = row.get("test_imports") or []
    if not isinstance(imports, list) or not all(isinstance(line, str) for line in imports):
        raise UserError(f"{place}: the field 'test_imports' must be a list of texts")
    setup = row.get("test_setup_code") or "\n".join(imports)
    metadata = {k: v for k, v in row.items() if k not in ("text", "prompt")}
    metadata |= {"test_setup_code": setup}
    metadata.setdefault("challenge_test_list", [])
    return Problem(
        f"mbpp-{text_of(row, 'task_id', place)}",
        f"{description.strip()}\nYour code should pass this test:\n{tests[0].strip()}",
        "",
        "",
        metadata=metadata,
    )


def mbpp_split(row: Row) -> str:
    """The official split of a row of MBPP, which its task_id says where no field does."""
    if "split" in row:
        return str(row["split"])
    task = int(re.sub(r"\D", "", str(row.get("task_id"))) or 0)  # EvalPlus writes Mbpp/2
    starts = {"prompt": 1, "test": 11, "validation": 511, "train": 601}
    # Official: 1-10, 11-510, 511-600, 601-974.
    return next((name for name, start in reversed(starts.items()) if task >= start), "")


def humaneval_problem(row: Row, place: str, unnamed: str) -> Problem:
    """A task of HumanEval: complete the function whose head and docstring the prompt gives."""
    for name in ("entry_point", "test"):
        text_of(row, name, place)
    return Problem(text_of(row, "task_id", place), text_of(row, "prompt", place), "", "", "", row)


def task_problem(row: Row, place: str, unnamed: str) -> Problem:
    """A programming task with its statement in `problem` and its tests in `test` or `tests`."""
    if not row.get("test") and not row.get("tests"):
        raise UserError(f"{place}: the field 'test' or 'tests' is missing")
    metadata = {k: v for k, v in row.items() if k not in ("id", "problem")}
    return Problem(_id(row, unnamed), text_of(row, "problem", place), "", "", "", metadata)


def last_box(solution: str) -> str | None:
    r"""The content of the last \boxed{...} of a reference solution; None without one that closes."""
    starts = [match.end() for match in _BOX.finditer(solution)]
    if not starts:
        return None
    depth = 1
    for end in range(starts[-1], len(solution)):
        escaped = solution[end - 1] == "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[starts[-1] : end].strip()
    return None


def _answer(row: Row, place: str) -> tuple[str, str]:
    """(answer, solution), the latter "" when there is none."""
    solution = row.get("solution") or ""
    solution = solution[0] if isinstance(solution, list) else solution
    reward_model = row.get("reward_model")
    ground_truth = reward_model.get("ground_truth") if isinstance(reward_model, Mapping) else None
    answer = next(
        (row[name] for name in ("answer", "final_answer", "expected_answer") if name in row),
        ground_truth,
    )
    if isinstance(answer, list):  # OlympiadBench
        answer = ", ".join(str(part).strip().strip("$") for part in answer)
    if answer is None and isinstance(solution, str):
        answer = last_box(solution)
        if answer is None:
            raise UserError(f"{place}: neither an 'answer' nor a solution with \\boxed{{}}")
    answer = text_of({"answer": answer}, "answer", place)
    before, mark, number = answer.rpartition("####")
    if mark:  # GSM8K: the solution with its calculator marks, then the number
        return number.strip().replace(",", ""), re.sub(r"<<[^>]*>>", "", before).strip()
    return answer, solution


def _olympiad(row: Row) -> dict[str, Any]:
    """OlympiadBench's own names for what our file calls multiple and tolerance."""
    renamed = {"is_multiple_answer": "multiple", "error": "tolerance"}
    return {ours: row[name] for name, ours in renamed.items() if row.get(name) is not None}


def _id(row: Row, unnamed: str) -> str:
    name = next((n for n in ("id", "unique_id") if row.get(n) not in (None, "")), None)
    return unnamed if name is None else str(row[name])


def _lower_cased(row: Row) -> Row:
    """Some makers write Problem and Answer."""
    return {name.lower(): value for name, value in row.items()}
