"""Only a correct outcome is correct."""

from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict


def test_correct_is_a_matter_of_kind_not_of_score():
    assert [Outcome(kind, 1.0).correct for kind in Kind] == [True] + [False] * 4


def test_verdicts():
    assert verdict(True, "5") == Outcome(Kind.CORRECT, 1.0, "5")
    assert verdict(False) == Outcome(Kind.WRONG, 0.0, "")
    assert NO_ANSWER.score == 0.0 and not NO_ANSWER.correct


def test_kinds_are_their_names_in_metrics():
    assert {f"reward/{kind}" for kind in Kind} == {
        "reward/correct",
        "reward/wrong",
        "reward/no_answer",
        "reward/timeout",
        "reward/error",
    }
