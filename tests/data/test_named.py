"""The named sets: real files where they are, and rows as their makers publish them."""

import json

import pytest

from riskpo_jax.data.named import BOXED, FUNCTION, NAMED, PROGRAM, TFDS_SPLITS, read_named
from riskpo_jax.data.named_rows import last_box, mbpp_split
from riskpo_jax.errors import UserError

# Rows of the shared files, as its README counts them; MBPP by its official splits.
SIZES = {
    "gsm8k": 7473,
    "gsm8k_test": 1319,
    "math": 7457,
    "math_12k": 7457 + 3891,
    "math500": 500,
    "dapo_math_17k": 16436,
    "aime_1983_2023": 963,
    "asdiv": 1788,
    "aime24": 30,
    "aime25": 30,
    "amc23": 40,
    "minerva": 272,
    "olympiadbench": 338,
    "mbpp": 374,
    "mbpp_test": 350,
    "humaneval": 164,
    "leetcode": 1756,
    "leetcode_test": 199,
    "codeforces": 408,
}
CODE = {"mbpp", "mbpp_test", "humaneval", "leetcode", "leetcode_test", "codeforces"}


def read(name, folder, *rows):
    """The problems of the set whose first file has these rows."""
    file = folder / NAMED[name].files[0]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_named(NAMED[name], folder)


def test_the_tables_agree():
    assert set(SIZES) == set(NAMED)
    assert {name for splits in TFDS_SPLITS.values() for name in splits.values()} <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_the_real_files(name, shared_data):
    problems = read_named(NAMED[name], shared_data)
    assert len(problems) == SIZES[name]
    assert len({problem.id for problem in problems}) == len(problems)
    assert {problem.dataset for problem in problems} == {name}
    reward, instruction = ("code", FUNCTION) if name in CODE else ("math", BOXED)
    instruction = PROGRAM if name == "codeforces" else instruction
    assert {(p.reward, p.instruction) for p in problems} == {(reward, instruction)}
    assert all(bool(p.answer) == (reward == "math") and p.text.strip() for p in problems)
    levels = {problem.level for problem in problems}
    assert levels - {""} == (set("12345") if name.startswith("math") else set())
    tests = {
        "mbpp": {"test_list", "challenge_test_list", "test_setup_code", "code"},
        "mbpp_test": {"test_list", "challenge_test_list", "test_setup_code", "code"},
        "humaneval": {"prompt", "entry_point", "test", "canonical_solution"},
        "leetcode": {"test", "solution"},
        "leetcode_test": {"test", "solution"},
        "codeforces": {"tests"},
        "olympiadbench": {"answer_type", "multiple"},
    }
    assert all(tests.get(name, set()) <= set(p.metadata) for p in problems)


@pytest.mark.parametrize("name", NAMED)
def test_an_absent_file_is_named_with_what_to_download_and_where_to_put_it(name, tmp_path):
    with pytest.raises(UserError) as caught:
        read_named(NAMED[name], tmp_path)
    message = str(caught.value)
    assert f"there is no {tmp_path / NAMED[name].files[0]}: get " in message
    assert "https://" in message and "--data.folder" in message and "\n" not in message


def test_the_second_file_of_two_is_needed_too(tmp_path):
    with pytest.raises(UserError, match="there is no .*math_test_rest.jsonl"):
        read("math_12k", tmp_path, {"id": "1", "problem": "1+1?", "answer": "2"})


def test_gsm8k_as_published(tmp_path):
    answer = "She sold 48/2 = <<48/2=24>>24 clips.\nAltogether 1,072.\n#### 1,072"
    (problem,) = read("gsm8k", tmp_path, {"question": "How many clips?", "answer": answer})
    assert (problem.id, problem.text, problem.answer) == (
        "gsm8k_train-0",
        "How many clips?",
        "1072",
    )
    assert problem.metadata == {"solution": "She sold 48/2 = 24 clips.\nAltogether 1,072."}


def test_math_as_published(tmp_path):
    row = {"problem": "$1+1$?", "level": "Level 5", "type": "Algebra"}
    solution = r"Not \boxed{1} but $\boxed{\frac{1}{2} \{a\}}$."
    odd = row | {"level": "Level ?", "solution": r"\fbox{7}"}
    first, second = read("math", tmp_path, row | {"solution": solution}, odd)
    assert (first.answer, first.level) == (r"\frac{1}{2} \{a\}", "5")
    assert first.metadata == {"solution": solution, "subject": "Algebra"}
    assert (second.answer, second.level) == ("7", "")


def test_math500_as_published(tmp_path):
    row = {"problem": "?", "solution": "so", "answer": "3", "subject": "Algebra", "level": 2}
    (problem,) = read("math500", tmp_path, row | {"unique_id": "test/algebra/1.json"})
    assert (problem.id, problem.level, problem.answer) == ("test/algebra/1.json", "2", "3")
    assert problem.metadata["subject"] == "Algebra"


def test_dapo_as_published(tmp_path):
    opening = (
        "Solve the following math problem step by step. The last line of your response should "
    )
    wrapped = (
        f"{opening}be of the form Answer: $Answer.\n\nWhat is $1+1$?\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    row = {
        "prompt": [{"role": "user", "content": wrapped}],
        "reward_model": {"ground_truth": "2", "style": "rule"},
        "extra_info": {"index": "x"},
    }
    (problem,) = read("dapo_math_17k", tmp_path, row)
    assert (problem.text, problem.answer) == ("What is $1+1$?", "2")


def test_olympiadbench_as_published(tmp_path):
    row = {
        "id": 1606,
        "question": "All $x$?",
        "solution": ["Long.", "Other."],
        "final_answer": ["$1$", "$2$"],
        "is_multiple_answer": True,
        "unit": None,
        "answer_type": "Numerical",
        "error": "1e-1",
    }
    (problem,) = read("olympiadbench", tmp_path, row)
    assert (problem.id, problem.answer) == ("1606", "1, 2")
    assert problem.metadata["multiple"] is True and problem.metadata["tolerance"] == "1e-1"
    assert problem.metadata["solution"] == "Long."


def test_capital_letters_and_answers_in_the_solution(tmp_path):
    (aime,) = read("aime24", tmp_path, {"ID": "2024-I-1", "Problem": "?", "Answer": 204})
    assert (aime.id, aime.text, aime.answer) == ("2024-I-1", "?", "204")
    (minerva,) = read("minerva", tmp_path, {"problem": "?", "solution": r"$\boxed{1.6}$ cm"})
    assert minerva.answer == "1.6"


def test_a_task_of_mbpp_shows_one_test_only(tmp_path):
    tests = ["assert add(1, 2) == 3", "assert add(4, 4) == 8", "assert add(0, 9) == 9"]
    row = {"text": "Write a function to add.", "code": "secret", "test_list": tests}
    train = row | {"task_id": 601, "test_setup_code": "", "challenge_test_list": []}
    (problem,) = read("mbpp", tmp_path, train, row | {"task_id": 11}, row | {"task_id": 555})
    assert problem.id == "mbpp-601" and problem.metadata["test_list"] == tests
    assert problem.text == f"Write a function to add.\nYour code should pass this test:\n{tests[0]}"
    assert problem.metadata["challenge_test_list"] == []
    (test,) = read_named(NAMED["mbpp_test"], tmp_path)
    assert test.id == "mbpp-11"


def test_mbpp_sanitized_as_published(tmp_path):
    row = {"prompt": "Add.", "task_id": 700, "code": "", "test_imports": ["import math"]}
    (problem,) = read("mbpp", tmp_path, row | {"test_list": ["assert f(1)"]})
    assert problem.metadata["test_setup_code"] == "import math"
    assert problem.text.startswith("Add.\n")


def test_the_official_ranges_of_mbpp_and_a_field_that_says_otherwise():
    borders = {1: "prompt", 10: "prompt", 11: "test", 510: "test", 511: "validation"}
    borders |= {600: "validation", 601: "train", 974: "train"}
    assert {task: mbpp_split({"task_id": task}) for task in borders} == borders
    assert mbpp_split({"task_id": 11, "split": "train"}) == "train"
    assert mbpp_split({"task_id": "Mbpp/2"}) == "prompt"  # EvalPlus
    assert mbpp_split({"task_id": "x"}) == mbpp_split({}) == ""


@pytest.mark.parametrize(
    ("name", "row", "complaint"),
    [
        ("gsm8k", {"question": "?"}, r"neither an 'answer' nor a solution with \\boxed"),
        ("gsm8k", {"question": "?", "answer": ""}, "'answer' must be a text"),
        ("gsm8k", {"question": "?", "reward_model": "rule"}, "neither an 'answer'"),
        ("gsm8k", {"question": "?", "solution": 7}, "'answer' must be a text"),
        ("math", {"answer": "2"}, "'problem' must be a text"),
        ("math", {"problem": "?", "solution": r"\boxed{1"}, "neither an 'answer'"),
        ("mbpp", {"task_id": 601, "text": "?"}, "'test_list' must be a list of asserts"),
        ("mbpp", {"task_id": 601, "test_list": ["assert 1"]}, "'prompt' is missing"),
        (
            "mbpp",
            {"task_id": 601, "text": "?", "test_list": ["assert 1"], "test_imports": [1]},
            "'test_imports' must be a list of texts",
        ),
        ("humaneval", {"task_id": "x", "prompt": "?", "test": "?"}, "'entry_point' is missing"),
        ("leetcode", {"id": "x", "problem": "?"}, "'test' or 'tests' is missing"),
    ],
)
def test_a_row_of_another_kind_is_named_by_file_and_line(name, row, complaint, tmp_path):
    with pytest.raises(UserError, match=f"{NAMED[name].files[0]}:1: .*{complaint}"):
        read(name, tmp_path, row)


def test_a_file_without_problems_of_the_set(tmp_path):
    row = {"text": "?", "task_id": 11, "test_list": ["assert 1"]}
    with pytest.raises(UserError, match="data set mbpp: .*mbpp.jsonl holds none"):
        read("mbpp", tmp_path, row)


def test_the_last_box():
    assert last_box("none") is None and last_box(r"\boxed{1") is None
    assert last_box(r"\boxed{1} then \boxed {x^{2}}") == "x^{2}"
    assert last_box(r"\boxed{\left\{ 1 \right.} done") == r"\left\{ 1 \right."
