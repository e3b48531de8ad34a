"""Adapters beside the parameters, and added to them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.lora import MATRICES, Lora
from riskpo_jax.models.partitioning import abstract_params, init_params
from riskpo_jax.sharding import make_mesh

TOKENS = np.random.default_rng(0).integers(0, 37, (2, 11))
VALID = np.ones(TOKENS.shape, bool)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("matrices", [("q", "o", "up"), MATRICES])
def test_adapters_begin_as_nothing_and_are_split_off_again(matrices, make_config, full_logits):
    config, lora = make_config(), Lora(3, 6.0, matrices)
    model = Decoder(config, lora=lora)
    params = init_params(model, jax.random.key(0), make_mesh())
    base, adapters = lora_lib.split(params)
    assert_same(lora_lib.join(base, adapters), params)
    names = {path[-1] for path in flatten_dict(adapters)}
    assert names == {f"{name}_lora_{end}" for name in matrices for end in "ab"}
    plain = nn.unbox(abstract_params(Decoder(config)))
    assert jax.tree.map(jnp.shape, base) == jax.tree.map(lambda x: x.shape, plain)
    with_adapters = full_logits(model, params, TOKENS, VALID)
    np.testing.assert_array_equal(full_logits(Decoder(config), base, TOKENS, VALID), with_adapters)


def test_initial_a_is_uniform_by_the_number_of_inputs(make_config):
    """Kaiming's bound with a = sqrt(5), as PEFT has it: sqrt(6 / ((1 + 5) n)) = 1 / sqrt(n)."""
    config = make_config()
    params = init_params(Decoder(config, lora=Lora(64, 1.0)), jax.random.key(0), make_mesh())
    inputs = dict.fromkeys("qkv", 24) | {"o": 4 * 8, "gate": 24, "up": 24, "down": 20}
    flat = {path[-1]: x for path, x in flatten_dict(lora_lib.split(params)[1]).items()}
    for name, n in inputs.items():
        a = np.asarray(flat[f"{name}_lora_a"]) * np.sqrt(
            n
        )  # 3 layers of n * 64 draws from U(-1, 1)
        assert np.abs(a).max() <= 1
        for layer in a:
            np.testing.assert_allclose(np.sort(layer, None)[[0, -1]], [-1, 1], atol=0.02)
            np.testing.assert_allclose([layer.mean(), layer.var()], [0, 1 / 3], atol=0.05)
        assert not np.array_equal(a[0], a[1])
        assert not np.any(flat[f"{name}_lora_b"])


def test_the_merged_model_is_the_adapted_one(
    family_config, random_params, random_adapters, full_logits
):
    config, lora = family_config, Lora(4, 6.0)
    base, adapters = random_params(config), random_adapters(config, lora)
    merged = jax.jit(lora_lib.merge, static_argnums=2)(base, adapters, lora)
    adapted = full_logits(Decoder(config, lora=lora), lora_lib.join(base, adapters), TOKENS, VALID)
    difference = full_logits(Decoder(config), merged, TOKENS, VALID) - adapted
    assert np.abs(difference).max() <= 1e-5 * np.abs(adapted).max()
    plain = full_logits(Decoder(config), base, TOKENS, VALID)
    assert np.abs(plain - adapted).max() > 0.1 * np.abs(adapted).max()


def test_merge_leaves_other_matrices_alone_and_keeps_the_types(
    make_config, random_params, random_adapters
):
    config, lora = make_config(), Lora(2, 2.0, ("q", "down"))
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_params(config))
    merged = flatten_dict(lora_lib.merge(base, random_adapters(config, lora), lora))
    assert merged.keys() == flatten_dict(base).keys()
    changed = set()
    for path, w in flatten_dict(base).items():
        assert merged[path].dtype == w.dtype and merged[path].shape == w.shape
        if not np.array_equal(merged[path], w):
            changed.add(path[-1])
    assert changed == {"q", "down"}


def test_merge_rounds_once(make_config, random_params, random_adapters):
    """In bfloat16, the sum is that of float64 rounded: within half a unit in the last place."""
    config, lora = make_config(), Lora(4, 2.0, ("gate",))
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_params(config))
    adapters = random_adapters(config, lora)
    merged = np.float64(lora_lib.merge(base, adapters, lora)["layers"]["mlp"]["gate"])
    a, b = (np.float64(adapters["layers"]["mlp"][f"gate_lora_{end}"]) for end in "ab")
    exact = np.float64(base["layers"]["mlp"]["gate"]) + 0.5 * a @ b
    assert np.all(np.abs(merged - exact) <= 2.0**-8 * np.abs(exact) + 1e-6)
