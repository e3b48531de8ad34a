"""GSM8K (Cobbe et al., arXiv 2110.14168): train, and test where its file is there."""

from __future__ import annotations

from riskpo_jax.data.named import NAMED
from riskpo_jax.data.tfds_builders.base import ProblemsBuilder


class Builder(ProblemsBuilder):
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{NAMED['gsm8k'].files[0]} in manual_dir: {NAMED['gsm8k'].origin}"
    )
