"""The estimators that are compared do not depend on how the measured policy was trained."""

import pytest

from experiments.gradient_estimators import MEAN_REWARD, configs_of, estimators
from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve

SHARED = {"alpha": 0.1, "beta": 0.7, "omega": 2.0, "bundle_size": 4, "tracker_step_size": 0.3}


def settings(**algorithm):
    given = {f"algorithm.{name}": value for name, value in (SHARED | algorithm).items()}
    return resolve(from_flat(given | {"data.questions_per_step": 8}))


@pytest.mark.parametrize(
    "method",
    [
        {"levels": "adaptive"},
        {"bundling": "stratified", "scale_advantages": True},
        {"preset": "gspo", "kl_coef": 0.1, "entropy_coef": 0.1},
        {"profile": "seeking", "credit": "expected", "baseline": "mean"},
        {"preset": "dapo", "clip_low": 0.1, "loss_aggregation": "sequence_mean"},
    ],
)
def test_nothing_of_the_run_s_own_method_is_inherited(method):
    found, expected = (
        {name: config.algorithm for name, config in configs_of(settings(**own)).items()}
        for own in (method, {})
    )
    assert found == expected


def test_what_belongs_to_the_problem_is_the_run_s():
    config = settings()
    for found in configs_of(config).values():
        assert {name: getattr(found.algorithm, name) for name in SHARED} == SHARED
        assert (found.data, found.rollout, found.train) == (
            config.data,
            config.rollout,
            config.train,
        )


def test_only_the_rows_that_say_so_are_stratified():
    for name, found in configs_of(settings()).items():
        assert (found.algorithm.bundling == "stratified") == name.endswith("stratified"), name
        assert found.algorithm.levels == "fixed"
    assert MEAN_REWARD in estimators()
