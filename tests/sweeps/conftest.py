import pytest

from riskpo_jax.reporting.run_data import RunData


def a_run(level: float, steps: int = 20) -> RunData:
    """A run whose training reward rises from `level` by 0.01 a step and whose pass@k are level / 2, level."""
    metrics = [
        {
            "step": step,
            "reward/mean": level + 0.01 * step,
            "policy/entropy": 1.0 - level,
            "risk/mvar": level,
            "risk/cvar": 0.0,
        }
        for step in range(1, steps + 1)
    ]
    evals = {
        f"toy/{part}": [
            {
                "step": step,
                "pass@1": level * step / steps,
                "pass@4": 0.5 + level / 2,
                "entropy": 0.3,
            }
            for step in (0, steps)
        ]
        for part in ("easy", "all")
    }
    return RunData(metrics, evals)


@pytest.fixture
def outcomes():
    """Three seeds of a baseline and of what is better by about 0.1; a third variant never finished."""
    return {
        "base": {0: a_run(0.20), 1: a_run(0.40), 2: a_run(0.60)},
        "better": {0: a_run(0.30), 1: a_run(0.51), 2: a_run(0.69)},
        "broken": {},
    }
