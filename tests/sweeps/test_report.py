import pytest

from riskpo_jax.reporting.run_data import RunData
from riskpo_jax.sweeps.report import Account, markdown_table, report

ACCOUNT = Account(
    title="A sweep",
    shared="--train.steps=20\n",
    flags={"base": "", "better": "--train.steps=3", "broken": "--a=x|y"},
    seeds=[0, 1, 2],
    failures={"broken, seed 0": "error: a|b"},
    hours=1.5,
)


@pytest.fixture
def lines(outcomes):
    return report(ACCOUNT, outcomes, "base").splitlines()


def section(lines: list[str], title: str) -> list[str]:
    start = lines.index(f"## {title}")
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("## ")), len(lines))
    return lines[start:end]


def test_it_says_what_ran_and_what_did_not(lines):
    text = "\n".join(lines)
    assert lines[0] == "# A sweep"
    assert "6 runs finished, 1 did not; 1.50 hours in all" in text
    assert "| better | 3 of 3 | `--train.steps=3` |" in lines
    assert r"| broken | 0 of 3 | `--a=x\|y` |" in lines
    assert r"| broken, seed 0 | error: a\|b |" in section(lines, "Not finished")
    assert section(lines, "Shared settings")[-2:] == ["--train.steps=20", "```"]


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
    before = next(line for line in summary if line.startswith("| before training"))
    assert before.split(" | ")[1] == "0.0 [0.0, 0.0]"
    base = next(line for line in summary if line.startswith("| base"))
    assert base.split(" | ")[2] == ""
    broken = next(line for line in summary if line.startswith("| broken"))
    assert broken == "| broken | - | - | - | - | - | - |"


def test_one_seed_has_no_interval(outcomes):
    one = {name: {0: runs[0]} if runs else {} for name, runs in outcomes.items()}
    summary = section(report(ACCOUNT, one, "base").splitlines(), "Summary")
    better = next(line for line in summary if line.startswith("| better"))
    assert better.split(" | ")[1:3] == ["30.0", "+10.0"]


def test_before_training_is_the_mean_of_variants_that_begin_differently(outcomes):
    other = RunData([], {"toy/all": [{"step": 0, "pass@1": 0.4}, {"step": 20, "pass@1": 0.6}]})
    mixed = {"base": {0: outcomes["base"][0]}, "better": {0: other}, "broken": {}}
    summary = section(report(ACCOUNT, mixed, "base").splitlines(), "Summary")
    before = next(line for line in summary if line.startswith("| before training"))
    assert before.split(" | ")[1] == "20.0"


def test_a_sweep_of_which_nothing_finished_still_reports():
    text = report(ACCOUNT, {"base": {}, "better": {}, "broken": {}}, "base")
    assert "0 runs finished" in text


def test_tables_are_rectangular():
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
