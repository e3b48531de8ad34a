"""The kernels' wrappers against dense attention; the kernels themselves run where the platform has them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.models.attention import KV, xla
from riskpo_jax.models.flash_attention import cudnn, make_attention, splash
from riskpo_jax.models.known import known
from riskpo_jax.sharding import make_mesh

B, T, P, H, K, D = 2, 39, 24, 4, 2, 128  # odd lengths, which cuDNN's gradient does not take


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((B, T, H, D), np.float32)
    kv = KV(*rng.standard_normal((2, B, K, P + T, D), np.float32))
    lengths = np.array([P, 5])
    seen = np.concatenate([np.arange(P)[None] < lengths[:, None], np.ones((B, T), bool)], axis=1)
    return q, kv, jnp.asarray(seen)


KERNELS = {
    "cudnn": partial(cudnn, implementation="xla"),
    "splash": lambda *args: splash(make_mesh(), *args, interpret=True),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("after_prompt", [False, True])
def test_values_and_gradients_are_those_of_dense_attention(tensors, name, after_prompt):
    q, kv, seen = tensors
    offset = P
    if not after_prompt:
        kv, seen, offset = KV(*(x[:, :, P:] for x in kv)), None, 0
    weights = np.random.default_rng(1).standard_normal(q.shape, np.float32)

    def weighted(attention, q, kv):
        y = attention(q, kv, seen, offset)
        return (weights * y).sum(), y

    run = partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    expected = run(partial(weighted, xla))(q, kv)
    found = run(partial(weighted, KERNELS[name]))(q, kv)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected[1]))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5 * scale)


def test_a_cpu_has_no_kernel():
    config, mesh = known("Qwen2.5-1.5B"), make_mesh()
    assert make_attention("auto", config, jnp.bfloat16, mesh) is xla
    assert make_attention("xla", config, jnp.bfloat16, mesh) is xla
    for name in ("cudnn", "splash"):
        with pytest.raises(UserError, match=f"--model.attention={name} runs on .PUs, not on cpu"):
            make_attention(name, config, jnp.bfloat16, mesh)
