import pytest

from riskpo_jax.sweeps.report import Account, markdown_table, report

ACCOUNT = Account(
    title="A sweep",
    flags={"base": "", "better": "--train.steps=3", "broken": "--reward.name=none"},
    seeds=[0, 1, 2],
    failures={"broken, seed 0": "error: a|b"},
    hours=1.5,
)


@pytest.fixture
def lines(outcomes):
    return report(ACCOUNT, outcomes, "base", ["curves.png"]).splitlines()


def section(lines: list[str], title: str) -> list[str]:
    start = lines.index(f"## {title}")
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("## ")), len(lines))
    return lines[start:end]


def test_it_says_what_ran_and_what_did_not(lines):
    text = "\n".join(lines)
    assert lines[0] == "# A sweep"
    assert "6 runs finished, 1 did not; 1.50 hours in all" in text
    assert "| better | 3 of 3 | `--train.steps=3` |" in lines
    assert r"| broken, seed 0 | error: a\|b |" in section(lines, "Not finished")
    assert lines[-1] == "![curves](curves.png)"


def test_means_and_paired_differences_in_percent(lines):
    whole = section(lines, "Evaluation: toy/all")
    means, differences = (
        next(line for line in part if line.startswith("| better"))
        for part in (whole, whole[whole.index("Difference from base:") :])
    )
    assert means.split(" | ")[1].startswith("50.0 [30.0, 69.0]")
    # +10, +11, +9 points: the mean is clear, however wide the seeds lie apart.
    assert differences.split(" | ")[1].startswith("**+10.0 [+9.0, +11.0] (+7.5 to +12.5)")


def test_the_summary_holds_each_measure_with_its_difference(lines):
    summary = section(lines, "Summary")
    header = next(line for line in summary if line.startswith("| variant"))
    assert header == (
        "| variant | pass@1 (%), toy | difference | pass@4 (%), toy | difference "
        "| entropy (nats a token) | difference |"
    )
    base = next(line for line in summary if line.startswith("| base"))
    assert base.split(" | ")[2] == ""
    broken = next(line for line in summary if line.startswith("| broken"))
    assert broken == "| broken | - | - | - | - | - | - |"


def test_a_sweep_of_which_nothing_finished_still_reports():
    text = report(ACCOUNT, {"base": {}, "better": {}, "broken": {}}, "base", [])
    assert "0 runs finished" in text


def test_tables_are_rectangular():
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
