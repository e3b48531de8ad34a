"""What trains and what stays: where each comes from, and that adapters begin by changing nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.models import lora
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.models.peft import save_adapters
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import setup, weights

SHAPE = DecoderConfig(260, 8, 12, 2, 2, 1, 4, max_position_embeddings=64, initializer_range=0.3)


@pytest.fixture(scope="module")
def stored():
    return init_params(Decoder(SHAPE), jax.random.key(5), make_mesh())


@pytest.fixture(scope="module")
def load(make_config, stored, tmp_path_factory):
    """load(**changes) -> (model, frozen, trained) of a run on the `stored` model."""
    path = tmp_path_factory.mktemp("model") / "base"
    save_pretrained(path, stored, SHAPE)
    byte_tokenizer().save_pretrained(path)

    def load(**changes):
        config = make_config(model__path=str(path), **changes)
        policy = setup.load_policy(config)
        parts = (config, policy, make_mesh())
        return policy.model, weights.load_frozen(*parts), weights.load_trained(*parts)

    return load


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rank", [0, 3])
def test_every_part_is_stored_in_its_type(load, stored, dtype, rank):
    model, frozen, trained = load(model__param_dtype=dtype, lora__rank=rank)
    base = jax.tree.map(lambda x: x.astype(dtype), stored)
    assert_equal(frozen if rank else trained, base)
    if rank:
        assert {str(x.dtype) for x in jax.tree.leaves(trained)} == {"float32"}
    else:
        assert frozen == {} and model.lora is None
    shapes = weights.trained_shapes(model, make_mesh())
    assert jax.tree.structure(shapes) == jax.tree.structure(trained)
    for a, b in zip(jax.tree.leaves(shapes), jax.tree.leaves(trained), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


def test_only_the_matrices_asked_for_have_adapters(load):
    model, _, trained = load(lora__rank=3, lora__matrices=("q_proj", "down_proj"), lora__alpha=6.0)
    assert model.lora.scale == 2
    assert sorted(trained["layers"]["attention"]) == ["q_lora_a", "q_lora_b"]
    assert sorted(trained["layers"]["mlp"]) == ["down_lora_a", "down_lora_b"]
    assert trained["layers"]["mlp"]["down_lora_a"].shape == (2, 12, 3)


def test_a_random_model_is_the_same_one_with_and_without_adapters(load):
    _, _, model = load(model__init="random")
    _, frozen, adapters = load(model__init="random", lora__rank=3)
    assert_equal(frozen, model)
    _, _, pretrained = load(lora__rank=3)
    assert_equal(pretrained, adapters)  # drawn from the seed alone


def test_the_first_rollout_is_the_base_s_own(load, prompts):
    base, _, params = load()
    adapted, frozen, adapters = load(lora__rank=3)
    drawn = [
        Sampler(Programs(model, make_mesh(), longest=8, eos_ids=(3, 11)), slots=16)(
            p, jax.random.key(1), prompts, 4, SamplingParams()
        )
        for model, p in ((base, params), (adapted, lora.join(frozen, adapters)))
    ]
    assert_equal(*drawn)


def test_adapters_are_read_from_a_directory(load, tmp_path):
    settings = {"lora__rank": 3, "lora__alpha": 6.0, "lora__matrices": ("v_proj", "up_proj")}
    model, _, drawn = load(**settings)
    trained = jax.tree.map(lambda x: x + 0.25, drawn)
    save_adapters(tmp_path / "adapter", trained, SHAPE, model.lora, "base")
    _, frozen, found = load(lora__path=str(tmp_path / "adapter"), **settings)
    assert_equal(found, trained)

    frozen_before = jax.tree.map(jnp.copy, frozen)
    merged = weights.merged(model, frozen, trained)
    assert all(x.is_deleted() for x in jax.tree.leaves(frozen))  # the sum took its memory
    frozen = frozen_before
    v, a, b = (
        np.float64(tree["layers"]["attention"][name])
        for tree, name in ((frozen, "v"), (trained, "v_lora_a"), (trained, "v_lora_b"))
    )
    expected = v + 2 * np.einsum("lmr,lrkd->lmkd", a, b)
    np.testing.assert_allclose(merged["layers"]["attention"]["v"], expected, atol=1e-5)
    np.testing.assert_array_equal(merged["embedding"], frozen["embedding"])
    assert jax.tree.structure(merged) == jax.tree.structure(frozen)
    assert weights.merged(Decoder(SHAPE), {}, merged) is merged


def test_compute_types_reach_the_model(load):
    for dtype in ("float32", "bfloat16", "float16"):
        model, _, _ = load(model__compute_dtype=dtype, model__param_dtype="bfloat16")
        assert (model.dtype, model.param_dtype) == (jnp.dtype(dtype), jnp.dtype("bfloat16"))
