"""What `--algorithm.preset` decides, unless a flag does."""

from __future__ import annotations

import dataclasses

from riskpo_jax.config import AlgorithmConfig

_COMMON_DEFAULTS = {"ratio": "token", "clip_low": 0.2, "clip_high": 0.2}
_PRESET_DEFAULTS = {
    "paper": {"loss_aggregation": "token_mean", "credit": "uniform"},
    "official_released": {"loss_aggregation": "token_mean"},
    "official_intended": {"loss_aggregation": "token_mean"},
    "grpo": {"loss_aggregation": "sequence_mean"},
    "dr_grpo": {"loss_aggregation": "constant_length"},
    "rloo": {"loss_aggregation": "sequence_mean"},
    "dapo": {"loss_aggregation": "token_mean", "clip_high": 0.28},
    "gspo": {"loss_aggregation": "sequence_mean", "ratio": "sequence"},
}
# A sequence's ratio is a mean of its tokens': it stays much closer to 1 (arXiv 2507.18071, 5.1).
_SEQUENCE_CLIP = {"clip_low": 3e-4, "clip_high": 4e-4}


def fill_preset(algorithm: AlgorithmConfig) -> AlgorithmConfig:
    """The settings with what was left open (None) filled by the preset; what was given stays."""
    defaults = _COMMON_DEFAULTS | _PRESET_DEFAULTS[algorithm.preset]
    if (algorithm.ratio or defaults["ratio"]) == "sequence":
        defaults |= _SEQUENCE_CLIP
    if algorithm.preset == "paper":
        credit = algorithm.credit or defaults["credit"]
        defaults["baseline"] = "leave_one_out" if credit == "expected" else "none"
    unset = {k: v for k, v in defaults.items() if getattr(algorithm, k) is None}
    return dataclasses.replace(algorithm, **unset)
