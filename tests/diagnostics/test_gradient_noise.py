"""Signal and noise of synthetic gradients, whose truth is known."""

import numpy as np
import pytest

from riskpo_jax.diagnostics.gradient_noise import gram, statistics, with_intervals

P = 50
MU = np.stack([np.ones(P) * 0.2, np.r_[np.ones(25) * 0.2, -np.ones(25) * 0.1], np.zeros(P)])


def draws(batches, seed, spread=(1.0, 2.0, 1.0)):
    """[N, 3, P]: Gaussians around MU; two estimators share half of their noise, as paired ones do."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(batches, 1, P)) * 0.5**0.5
    own = rng.normal(size=(batches, 3, P)) * 0.5**0.5
    return (MU[None] + (common + own) * np.array(spread)[None, :, None]).astype(np.float32)


def test_without_bias_in_few_batches():
    """Averaged over many repetitions of 5 batches; the naive norm of the mean would be far off."""
    found = [statistics(gram(draws(5, seed))) for seed in range(3000)]
    for key, truth in (("signal", (MU**2).sum(axis=1)), ("noise", np.array([P, 4 * P, P]))):
        values = np.stack([f[key] for f in found])
        errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        assert (np.abs(values.mean(axis=0) - truth) < 4 * errors).all()
        assert (errors < 0.02 * np.array([P, 4 * P, P])).all()
    naive = np.mean([(draws(5, seed).mean(axis=0) ** 2).sum(axis=1) for seed in range(300)], axis=0)
    np.testing.assert_allclose(naive, (MU**2).sum(axis=1) + np.array([P, 4 * P, P]) / 5, rtol=0.1)


def test_shared_noise_makes_no_two_estimators_agree():
    """Paired draws would have cosine 0.7 and more from their noise alone."""
    found = statistics(gram(draws(600, 0, spread=(0.5, 0.5, 0.5))))
    truth = MU[:2] @ MU[:2].T
    lengths = np.sqrt(np.diagonal(truth))
    np.testing.assert_allclose(
        found["cosine"][:2, :2], truth / lengths[:, None] / lengths, atol=0.05
    )
    squared = ((MU[0] - MU[1]) ** 2).sum() / (MU[1] ** 2).sum()
    assert found["relative_difference"][0, 1] == pytest.approx(squared, rel=0.1)


def test_signal_to_noise_and_its_ratio():
    found = statistics(gram(draws(600, 1, spread=(0.5, 1.0, 0.5))))
    truth = (MU**2).sum(axis=1) / np.array([P / 4, P, P / 4])
    np.testing.assert_allclose(found["snr"], truth, atol=0.02)
    assert found["log_snr_ratio"][0, 1] == pytest.approx(np.log(truth[0] / truth[1]), abs=0.2)
    assert found["log_snr_ratio"][1, 1] == 0


def test_alignment_is_the_mean_cosine_with_the_truth():
    gradients = draws(600, 2, spread=(0.5, 0.5, 0.5))
    cosines = (gradients * MU[None]).sum(axis=2)[:, :2]
    cosines /= np.linalg.norm(gradients, axis=2)[:, :2] * np.linalg.norm(MU[:2], axis=1)
    found = statistics(gram(gradients))["alignment"][:2]
    np.testing.assert_allclose(found, cosines.mean(axis=0), atol=0.02)


def test_intervals_cover_the_truth():
    truth, covered = (MU[0] ** 2).sum() / P, 0
    for seed in range(60):
        value, low, high = with_intervals(gram(draws(16, seed, spread=(1, 1, 1))))["snr"]
        assert (low <= value).all() and (value <= high).all()
        covered += low[0] <= truth <= high[0]
    assert covered >= 50


def test_an_estimator_without_any_gradient_has_no_direction():
    gradients = draws(6, 0)
    gradients[:, 1] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        found = statistics(gram(gradients))
    assert found["signal"][1] == found["noise"][1] == 0 and np.isnan(found["alignment"][1])
    assert np.isfinite(found["snr"][0])
