"""Rows in the file's order; each fault named with its place."""

import json

import pytest

from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.errors import UserError

GOOD = {"id": "a", "problem": "1 + 1?", "answer": "2"}


def write(path, *lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def test_rows_in_order_with_level_and_metadata(tmp_path):
    path = write(
        tmp_path / "sums.jsonl",
        {**GOOD, "level": 3, "subject": "Algebra"},
        "",
        {"id": 7, "problem": "line\u2028separator", "answer": 0.5},
    )
    source = JsonlSource(path)
    assert [source[i].id for i in range(len(source))] == ["a", "7"]
    first, second = source[0], source[1]
    assert (first.text, first.answer, first.level) == ("1 + 1?", "2", "3")
    assert first.dataset == "sums" and first.metadata == {"subject": "Algebra"}
    assert second.answer == "0.5" and second.level == "" and second.text == "line\u2028separator"


def test_several_files_follow_each_other(tmp_path):
    one = write(tmp_path / "one.jsonl", GOOD, {**GOOD, "id": "b"})
    two = write(tmp_path / "two.jsonl", {**GOOD, "id": "c"})
    source = JsonlSource(one, two)
    rows = [(source[i].id, source[i].dataset) for i in range(len(source))]
    assert rows == [("a", "one"), ("b", "one"), ("c", "two")]
    bad = write(tmp_path / "bad.jsonl", GOOD, "[1]")
    with pytest.raises(UserError, match="bad.jsonl:2: a JSON object"):
        JsonlSource(one, bad)
    with pytest.raises(UserError, match="empty.jsonl holds no problems"):
        JsonlSource(one, write(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "problem"', "not valid JSON"),
        ("[1, 2]", "object"),
        ({"id": "b", "problem": "?"}, "'answer' is missing"),
        ({"id": "b", "answer": "2"}, "'problem' is missing"),
        ({"problem": "?", "answer": "2"}, "'id' is missing"),
        ({**GOOD, "answer": None}, "'answer' must be a text"),
        ({**GOOD, "answer": True}, "'answer' must be a text"),
        ({**GOOD, "problem": "  "}, "'problem' must be a text"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "bad.jsonl", GOOD, "", line)
    with pytest.raises(UserError, match=message) as caught:
        JsonlSource(path)
    assert f"{path}:3:" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_empty_and_undecodable_files(tmp_path):
    with pytest.raises(UserError, match="nowhere.jsonl.*No such file"):
        JsonlSource(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="no problems"):
        JsonlSource(write(tmp_path / "empty.jsonl", "", "  "))
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(UserError, match="not UTF-8"):
        JsonlSource(tmp_path / "latin.jsonl")


def test_columns_of_other_names_and_rows_without_an_id(tmp_path):
    path = write(
        tmp_path / "mine.jsonl", {"q": "1 + 1?", "a": 2, "answer": "long"}, {"q": "?", "a": "x"}
    )
    first, second = JsonlSource(path, columns={"problem": "q", "answer": "a"})
    assert (first.id, first.text, first.answer, first.metadata) == (
        "mine-0",
        "1 + 1?",
        "2",
        {"answer": "long"},
    )
    assert second.id == "mine-1"
    with pytest.raises(UserError, match="mine.jsonl:1: the field 'question' is missing"):
        JsonlSource(path, columns={"problem": "question"})


@pytest.mark.parametrize("tests", ["test_list", "test", "tests"])
def test_a_task_with_tests_needs_no_answer(tmp_path, tests):
    row = {"id": "t", "problem": "Add.", tests: ["assert add(1, 2) == 3"]}
    (problem,) = JsonlSource(write(tmp_path / "tasks.jsonl", row))
    assert problem.answer == "" and problem.metadata == {tests: row[tests]}


def test_a_number_that_python_refuses_to_read(tmp_path):
    file = tmp_path / "long.jsonl"
    file.write_text('{"id": "a", "problem": "?", "answer": ' + "9" * 5000 + "}\n")
    with pytest.raises(UserError, match="long.jsonl:1: not valid JSON: .*4300 digits") as caught:
        JsonlSource(file)
    assert "\n" not in str(caught.value)
