"""One process with eight devices: sampling and training do not depend on how the mesh is cut."""

import os
import subprocess
import sys
import textwrap

SCRIPT = """
    import dataclasses
    import jax, jax.numpy as jnp, numpy as np, optax
    from riskpo_jax.config import from_flat
    from riskpo_jax.config_rules import resolve
    from riskpo_jax.models.config import DecoderConfig
    from riskpo_jax.models import lora
    from riskpo_jax.models.decoder import Decoder
    from riskpo_jax.models.partitioning import init_params, placed_shapes
    from riskpo_jax.sharding import make_mesh
    from riskpo_jax.training.rounding import round_like, with_moment_dtype
    from riskpo_jax.training.setup import make_sampler, make_state, rollout_sampling
    from riskpo_jax.training.train_step import make_train_step
    from riskpo_jax.training.trainable import frozen_and_trained
    from riskpo_jax.types import Prompts

    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8
    config = resolve(from_flat({
        "model.unroll": 1, "data.questions_per_step": 8, "algorithm.bundle_size": 2, "rollout.group_size": 2,
        "rollout.max_response_length": 6, "rollout.slots": 12,
        "train.tokens_per_micro_batch": 18, "train.epochs": 2, "eval.samples": 1, "eval.k": (1,),
        "rollout.steps_per_sync": 4,
    }))
    plain = Decoder(DecoderConfig(23, 32, 40, 2, 4, 2, 8, initializer_range=0.3))
    adapted = plain.clone(lora=lora.Lora(2, 4.0))
    optimizer = with_moment_dtype(optax.sgd(0.05, momentum=0.9), jnp.dtype("float32"))
    rng = np.random.default_rng(0)
    host = Prompts(rng.integers(0, 23, (8, 5)).astype(np.int32), np.int32(np.arange(8) % 5 + 1))
    host_params = jax.device_get(init_params(adapted, jax.random.key(0), make_mesh(8)))
    base, adapters = lora.split(host_params)
    adapters = jax.tree.map(lambda x: np.float32(0.3 * rng.standard_normal(x.shape)), adapters)
    rewards = rng.integers(0, 2, (8, 2)).astype(np.float32)

    def placed(model, tree, mesh):
        shardings = jax.tree.map(lambda x: x.sharding, placed_shapes(model, mesh))
        return jax.device_put(tree, shardings)

    def mesh_of(sizes):
        return make_mesh(*sizes, devices=jax.devices()[: np.prod(sizes)])

    def one_step(model, whole, sizes, rollout_tensor):
        mesh = mesh_of(sizes)
        frozen, params = frozen_and_trained(model, placed(model, whole, mesh))
        before, kept = jax.tree.map(np.array, jax.device_get((params, frozen)))
        state = make_state(config, params, optimizer, mesh)
        trees = map(jax.tree.leaves, (params, state.params, state.opt_state))
        for p, q, m in zip(*trees, strict=True):
            assert p.sharding == q.sharding == m.sharding and m.shape == p.shape
        for leaf in jax.tree.leaves((state.tracker, state.key, state.step)):
            assert leaf.sharding.is_fully_replicated and leaf.sharding.mesh == mesh
        policy = lora.join(frozen, state.params)
        settings = dataclasses.replace(
            config, rollout=dataclasses.replace(config.rollout, tensor=rollout_tensor)
        )
        sampler = make_sampler(settings, model, (3, 11), mesh)
        layout = sampler.programs.mesh
        assert layout.devices.ravel().tolist() == mesh.devices.ravel().tolist()
        own = {"data": mesh.size // (rollout_tensor or 1), "fsdp": 1, "tensor": rollout_tensor}
        assert layout.shape == (own if rollout_tensor else mesh.shape)
        sampling = rollout_sampling(settings)
        rollout = sampler(policy, jax.random.key(1), host, 2, sampling)
        step = make_train_step(config, model, optimizer, mesh)
        state, metrics = step(state, frozen, host, rollout, rewards, None)
        for leaf in jax.tree.leaves((state.tracker, state.step)):
            assert leaf.sharding.is_fully_replicated
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(frozen), kept)
        moved = jax.tree.map(np.subtract, before, jax.device_get(state.params))
        return {
            "rollout": rollout, "moved": moved, "metrics": metrics,
            "tracker": jax.device_get(state.tracker),
        }

    def assert_equal_on(meshes, model, whole):
        alone = one_step(model, whole, (1, 1, 1), 1)
        assert max(abs(x).max() for x in jax.tree.leaves(alone["moved"])) > 1e-3
        assert alone["metrics"]["policy/mismatch_kl"] < 1e-9
        assert alone["metrics"]["grad/skipped"] == 0
        for sizes, rollout_tensor in meshes:
            many = one_step(model, whole, sizes, rollout_tensor)
            for path, x, y in zip(
                jax.tree_util.tree_leaves_with_path(many), *map(jax.tree.leaves, (alone, many)),
                strict=True,
            ):
                where = f"{sizes} {jax.tree_util.keystr(path[0])}"
                np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-5, err_msg=where)

    def rounded(*sizes):
        low = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), base)
        round_ = jax.jit(lambda tree: round_like(jax.random.key(2), tree, low))
        return jax.device_get(round_(placed(plain, base, mesh_of(sizes))))

    # With the rollout's own layout, or that of training (0); 3 divides neither questions nor slots.
    meshes = [
        ((8, 1, 1), 1), ((1, 8, 1), 0), ((2, 2, 2), 1), ((4, 1, 2), 2), ((3, 1, 1), 1)
    ]
    assert_equal_on(meshes, plain, base)
    assert_equal_on([((1, 4, 2), 0)], adapted, lora.join(base, adapters))
    alone = rounded(1, 1, 1)
    for sizes in [(8, 1, 1), (1, 4, 2)]:
        jax.tree.map(np.testing.assert_array_equal, rounded(*sizes), alone)
    print("equal on all meshes")
"""


def test_a_step_is_the_same_on_every_mesh():
    """Same tokens, log-probabilities, metrics, gradients over two updates, and tracker.

    With and without adapters; and what is rounded at random is rounded alike.
    """
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "equal on all meshes" in result.stdout
