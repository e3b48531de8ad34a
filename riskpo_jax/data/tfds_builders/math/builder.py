"""MATH (Hendrycks et al., arXiv 2103.03874): its train part, and MATH-500 as test where its file is there."""

from __future__ import annotations

from riskpo_jax.data.named import NAMED
from riskpo_jax.data.tfds_builders.base import ProblemsBuilder


class Builder(ProblemsBuilder):
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{NAMED['math'].files[0]} in manual_dir: {NAMED['math'].origin}"
