"""pass@k, avg@k and maj@k, one value a problem (NumPy, on the host).

Letters: P problems, S samples a problem. Every function returns float64[P]; the mean over problems
and its interval are `bootstrap.mean_interval`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from riskpo_jax.errors import UserError


def pass_at_k(correct_PxS: np.ndarray, k: int) -> np.ndarray:
    """Unbiased estimate of the chance that at least one of k samples is correct.

    With c of S samples correct, `1 - C(S - c, k) / C(S, k) = 1 - prod_{i = S-c+1}^{S} (1 - k / i)`
    (Chen et al. 2021, arXiv 2107.03374, equation 1 and the stable form of its figure 3).

    Args:
      correct_PxS: bool[P, S].
      k: samples drawn without replacement, 1 <= k <= S.

    Raises:
      UserError: k is outside 1..S.
    """
    samples = correct_PxS.shape[1]
    _check_k(k, samples)
    # Factors at i < k are negative and come after the 0 at i = k: cut, or they could overflow.
    factors_S = np.maximum(1.0 - k / np.arange(samples, 0, -1), 0.0)
    miss_by_count = np.concatenate([[1.0], np.cumprod(factors_S)])  # [c]: all k samples are wrong
    return 1.0 - miss_by_count[np.count_nonzero(correct_PxS, axis=1)]


def avg_at_k(correct_PxS: np.ndarray, k: int) -> np.ndarray:
    """Fraction correct among the first k samples of bool[P, S].

    Raises:
      UserError: k is outside 1..S.
    """
    _check_k(k, correct_PxS.shape[1])
    return correct_PxS[:, :k].mean(axis=1, dtype=np.float64)


def maj_at_k(answers: Sequence[Sequence[str]], correct_PxS: np.ndarray, k: int) -> np.ndarray:
    """1 where the majority answer of the first k samples is correct, else 0.

    Source: self-consistency (Wang et al. 2022, arXiv 2203.11171).

    Args:
      answers: P lists of S normalised answers. An empty answer does not vote; a tie goes to the
        answer that came first; a problem without votes counts as wrong.
      correct_PxS: bool[P, S]; equal answers to one problem have equal entries.
      k: votes a problem, 1 <= k <= S.

    Raises:
      UserError: k is outside 1..S.
    """
    _check_k(k, correct_PxS.shape[1])
    problems = zip(answers, correct_PxS, strict=True)
    return np.array(
        [_majority_correct(given[:k], right[:k]) for given, right in problems], np.float64
    )


def _majority_correct(answers: Sequence[str], correct_k: np.ndarray) -> bool:
    votes = Counter(answer for answer in answers if answer)
    if not votes:
        return False
    winner, _ = votes.most_common(1)[0]  # equals stay in the order of their first occurrence
    return bool(correct_k[list(answers).index(winner)])


def _check_k(k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise UserError(
            f"--eval.k: k = {k} needs 1 <= k <= --eval.samples = {samples}; "
            "lower k or draw more samples"
        )
