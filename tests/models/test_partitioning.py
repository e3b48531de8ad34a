"""Parameters on meshes: the right axes are split, and the values stay the same."""

import os
import subprocess
import sys
import textwrap

import jax
from jax.sharding import AbstractMesh, PartitionSpec

from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.partitioning import abstract_params, init_params, param_shardings
from riskpo_jax.sharding import MESH_AXES, make_mesh


def specs(config, data, fsdp, tensor):
    mesh = AbstractMesh((data, fsdp, tensor), MESH_AXES)
    shardings = param_shardings(abstract_params(Decoder(config)), mesh)
    return jax.tree.map(lambda sharding: sharding.spec, shardings)


def test_param_shardings_follow_the_rules(make_config):
    tree = specs(make_config(vocab_size=64), data=2, fsdp=4, tensor=2)
    P = PartitionSpec
    assert tree["embedding"] == tree["head"] == P("tensor", "fsdp")
    assert tree["layers"]["attention"]["q"] == P(None, "fsdp", "tensor", None)
    assert tree["layers"]["attention"]["k_bias"] == P(None, "tensor", None)
    assert tree["layers"]["attention"]["o"] == P(None, "tensor", None, "fsdp")
    assert tree["layers"]["mlp"]["down"] == P(None, "tensor", "fsdp")


def test_axes_that_do_not_divide_stay_whole(make_config):
    tree = specs(make_config(vocab_size=37, num_kv_heads=2), data=1, fsdp=2, tensor=4)
    P = PartitionSpec
    assert tree["embedding"] == P(None, "fsdp")  # 37 rows over 4
    assert tree["layers"]["attention"]["k"] == P(None, "fsdp", None, None)  # 2 heads over 4
    assert tree["layers"]["attention"]["q"] == P(None, "fsdp", "tensor", None)


def test_init_params_are_plain_arrays(make_config):
    params = init_params(Decoder(make_config()), jax.random.key(0), make_mesh())
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    stacked = params["layers"]["mlp"]["up"]
    assert stacked.shape == (3, 24, 20)
    assert abs(float(stacked.std()) - 0.02) < 0.002
    assert float(abs(stacked[0] - stacked[1]).min()) > 0  # every layer draws its own values


SCRIPT = """
    import jax, jax.numpy as jnp, numpy as np
    from riskpo_jax.models import masks
    from riskpo_jax.models.attention import masked
    from riskpo_jax.models.config import DecoderConfig
    from riskpo_jax.models.decoder import Decoder
    from riskpo_jax.models.partitioning import init_params
    from riskpo_jax.sharding import batch_sharding, make_mesh

    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8
    model = Decoder(DecoderConfig(37, 32, 48, 2, 4, 1, 8))
    tokens = np.random.default_rng(0).integers(0, 37, (8, 10))
    valid = np.arange(10)[None, :] >= np.arange(8)[:, None]

    def loss(params, tokens, valid):
        args = tokens, masks.positions_from_valid(valid), masked(masks.causal(valid))
        hidden, _ = model.apply({"params": params}, *args)
        logits = model.apply({"params": params}, hidden, method="unembed")
        return jnp.sum(jnp.where(valid[:, :, None], jax.nn.log_softmax(logits), 0) ** 2)

    def run(mesh):
        params = init_params(model, jax.random.key(0), mesh)
        batch = jax.device_put((tokens, valid), batch_sharding(mesh))
        return params, jax.jit(jax.value_and_grad(loss))(params, *batch)

    params, result = run(make_mesh(devices=jax.devices()[:1]))
    split_params, split_result = run(make_mesh(data=-1, fsdp=2, tensor=2))
    jax.tree.map(np.testing.assert_array_equal, params, split_params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), result, split_result
    )
    up = split_params["layers"]["mlp"]["up"]
    assert up.addressable_shards[0].data.size * 4 == up.size
    print("the same on both meshes")
"""


def test_eight_devices_compute_what_one_does():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env=os.environ | flags, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "the same on both meshes" in result.stdout, result.stderr[-3000:]
