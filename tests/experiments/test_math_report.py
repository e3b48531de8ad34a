"""The report on the grader of mathematics, end to end on three pairs."""

import json


def test_report(shell, tmp_path):
    pairs = [
        ("a-1", "5", r"so \boxed{5}", True, "plain"),
        ("a-2", "5", r"so \boxed{6}", False, "plain"),
        ("a-3", "5", r"so \boxed{6}", True, "mislabelled"),
    ]
    names = ("id", "gold", "response", "correct", "category")
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(dict(zip(names, p, strict=True))) for p in pairs))
    done = shell("experiments.math_report", f"--pairs={file}", "--responses=30")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines() if "│" in line}
    assert rows["plain"][3::2] == ["2", "1.0000", "1.0000"]
    assert rows["all"][3::2] == ["3", "1.0000", "0.5000"]
    assert "labelled correct, not graded so: 1" in done.stdout and "a-3: gold '5'" in done.stdout
    assert "throughput: 30 responses" in done.stdout and "10000000!" in done.stdout


def test_a_missing_file_is_one_line(shell, tmp_path):
    done = shell("experiments.math_report", f"--pairs={tmp_path / 'none.jsonl'}")
    assert done.returncode == 1 and "error: cannot read the pairs in" in done.stderr
