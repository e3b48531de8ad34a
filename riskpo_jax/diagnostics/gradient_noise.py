"""Signal and noise of stochastic gradients, from the inner products of independent draws.

An estimator's gradient in batch b is g_b, its expectation mu, and E||g_b - mu||^2 its noise. The mean of N
draws has E||mean||^2 = ||mu||^2 + noise / N, which flatters a noisy estimator. Without bias are

    <mu_e, mu_f>   the mean of <g_be, g_b'f> over pairs of different batches b != b'
    noise          the mean of ||g_b||^2, less ||mu||^2 from above

so the inner products of all pairs of gradients are all that is needed. (Of independent batches. A quantile
tracker that was settled on these batches ties them, and the less the more there are.) All estimators see
the same batches. Signal-to-noise is ||mu||^2 / noise: its inverse is how many batches averaged have as
much signal as noise (arXiv 1812.06162's noise scale, in batches).
"""

from __future__ import annotations

import numpy as np

from riskpo_jax.diagnostics.resampling import jackknife_intervals

FEWEST_BATCHES = 4  # the jackknife leaves one out, and a variance needs two of the rest


def gram(gradients_NxExP: np.ndarray) -> np.ndarray:
    """float64[N, E, N, E]: all inner products of N draws of E estimators' gradients."""
    N, E, P = gradients_NxExP.shape
    rows = gradients_NxExP.reshape(N * E, P)
    return (rows @ rows.T).astype(np.float64).reshape(N, E, N, E)


def statistics(gram_NxExNxE: np.ndarray) -> dict[str, np.ndarray]:
    """What the module's docstring defines, for N >= 2 batches; NaN where there is no signal to compare.

    Returns:
      signal, noise, snr: [E], squared norms. cosine [E, E]: between expectations. alignment [E]: the mean
      cosine of one batch's gradient with the estimator's own expectation. relative_difference [E, E]:
      ||mu_e - mu_f||^2 / ||mu_f||^2, a ratio of two unbiased estimates, itself biased; it may come out
      below 0. log_snr_ratio [E, E]: of e's over f's.
    """
    N = len(gram_NxExNxE)
    total_ExE = gram_NxExNxE.sum(axis=(0, 2))
    inner_ExE = (total_ExE - np.einsum("bebf->ef", gram_NxExNxE)) / (N * (N - 1))
    signal_E = np.diagonal(inner_ExE)
    squares_NxE = np.einsum("bebe->be", gram_NxExNxE)
    noise_E = squares_NxE.mean(axis=0) - signal_E
    snr_E = signal_E / noise_E

    length_E = np.sqrt(np.where(signal_E > 0, signal_E, np.nan))
    norms_NxE = np.sqrt(squares_NxE)
    with_others_NxE = (np.einsum("bece->be", gram_NxExNxE) - squares_NxE) / (N - 1)
    along_NxE = with_others_NxE / np.where(
        norms_NxE > 0, norms_NxE, np.inf
    )  # no gradient, no direction
    difference_ExE = signal_E[:, None] + signal_E[None, :] - 2 * inner_ExE
    log_snr_E = np.log(np.where(snr_E > 0, snr_E, np.nan))
    return {
        "signal": signal_E,
        "noise": noise_E,
        "snr": snr_E,
        "cosine": inner_ExE / (length_E[:, None] * length_E[None, :]),
        "alignment": along_NxE.mean(axis=0) / length_E,
        "relative_difference": difference_ExE / signal_E[None, :],
        "log_snr_ratio": log_snr_E[:, None] - log_snr_E[None, :],
    }


def with_intervals(
    gram_NxExNxE: np.ndarray,
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`statistics` with the ends of their 95% jackknife intervals over the batches."""
    estimators = np.arange(gram_NxExNxE.shape[1])

    def of_kept(kept: np.ndarray) -> dict[str, np.ndarray]:
        return statistics(gram_NxExNxE[np.ix_(kept, estimators, kept, estimators)])

    return jackknife_intervals(of_kept, np.arange(len(gram_NxExNxE)))
