"""Settings of the whole suite: CPU devices and strict broadcasting."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests compile much and compute little: unoptimised code halves their time.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def tiny_model():
    """Two layers, grouped queries, an odd vocabulary: enough to go wrong, quick to compile."""
    from riskpo_jax.models.config import DecoderConfig
    from riskpo_jax.models.decoder import Decoder

    return Decoder(
        DecoderConfig(
            vocab_size=23,
            hidden_size=32,
            intermediate_size=40,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            initializer_range=0.3,
        )
    )


@pytest.fixture(scope="session")
def tiny_params(tiny_model):
    """Weights whose next-token distributions are far from flat."""
    from riskpo_jax.models.partitioning import init_params
    from riskpo_jax.sharding import make_mesh

    return init_params(tiny_model, jax.random.key(0), make_mesh())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data files that $RISKPO_DATA names: gsm8k_train.jsonl, math500.jsonl, ..."""
    if not os.environ.get("RISKPO_DATA"):
        pytest.skip("RISKPO_DATA is not set: it names the folder with gsm8k_train.jsonl and others")
    folder = Path(os.environ["RISKPO_DATA"])
    assert folder.is_dir(), f"RISKPO_DATA={folder} is no folder"
    return folder
