"""docs/precision.md, recomputed from the shapes of what a run holds; nothing is allocated."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.models import lora
from riskpo_jax.models.attention import xla
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.known import KNOWN
from riskpo_jax.models.partitioning import placed_shapes
from riskpo_jax.models.prompts import read_prompts
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import setup
from riskpo_jax.training.accumulate import vocabulary_in_float32
from riskpo_jax.training.logprobs import response_logprobs
from riskpo_jax.training.trainable import frozen_and_trained
from riskpo_jax.types import Prompts

DOCUMENT = (Path(__file__).parents[2] / "docs" / "precision.md").read_text()
SMALL, DISTILLED, LARGE = "Qwen2.5-1.5B", "DeepSeek-R1-Distill-Qwen-1.5B", "Qwen2.5-7B"

# Model, --model.param_dtype, --train.moment_dtype, --lora.rank
STATES = [
    (SMALL, "float32", "float32", 0),
    (SMALL, "float32", "bfloat16", 0),
    (SMALL, "bfloat16", "float32", 0),
    (SMALL, "bfloat16", "bfloat16", 0),
    (SMALL, "bfloat16", "float32", 16),
    (SMALL, "bfloat16", "float32", 64),
    (DISTILLED, "float32", "float32", 0),
    (DISTILLED, "bfloat16", "bfloat16", 0),
    (LARGE, "bfloat16", "bfloat16", 0),
    (LARGE, "bfloat16", "float32", 16),
    (LARGE, "bfloat16", "float32", 64),
]
# Model, --lora.rank, --model.param_dtype, --model.compute_dtype, --model.remat, prompt, response
ACTIVATIONS = [
    (SMALL, 0, "float32", "bfloat16", "none", 1024, 1024),
    (SMALL, 0, "float32", "bfloat16", "products", 1024, 1024),
    (SMALL, 0, "float32", "bfloat16", "all", 1024, 1024),
    (SMALL, 0, "float32", "bfloat16", "none", 1024, 3072),
    (SMALL, 0, "float32", "bfloat16", "products", 1024, 3072),
    (SMALL, 0, "float32", "bfloat16", "all", 1024, 3072),
    (SMALL, 0, "float32", "float32", "all", 1024, 3072),
    (LARGE, 16, "bfloat16", "bfloat16", "all", 1024, 3072),
    (LARGE, 16, "bfloat16", "float32", "all", 1024, 3072),
    (LARGE, 16, "bfloat16", "float32", "none", 64, 64),
]
CACHES = [(model, dtype) for model in (SMALL, LARGE) for dtype in ("float32", "bfloat16", "int8")]


def parts(config, name):
    """The model, its frozen parameters and those that train, as shapes."""
    model = setup.make_model(config, KNOWN[name])
    return model, *frozen_and_trained(model, placed_shapes(model, make_mesh()))


def nbytes(tree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def gigabytes(*sizes: int) -> list[str]:
    return [f"{size / 1e9:.2f}" for size in sizes]


def row(*cells) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def state_row(name, param_dtype, moment_dtype, rank) -> str:
    config = resolve(
        from_flat(
            {
                "model.param_dtype": param_dtype,
                "train.moment_dtype": moment_dtype,
                "lora.rank": rank,
            }
        )
    )
    _, frozen, trained = parts(config, name)
    state = setup.state_shapes(config, trained, setup.make_optimizer(config), make_mesh())
    widened = jax.eval_shape(vocabulary_in_float32, trained)
    pairs = zip(*map(jax.tree.leaves, (widened, trained)), strict=True)
    copies = [wide for wide, stored in pairs if wide.dtype != stored.dtype]
    floats = jax.tree.map(lambda x: x.update(dtype=jnp.float32), trained)
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    held = (
        nbytes((frozen, state.params)),
        nbytes(moments),
        nbytes(floats),  # the sum over micro-batches
        nbytes(widened) + nbytes(copies),  # that of one micro-batch, and what it is taken at
    )
    what = f"adapters, rank {rank}" if rank else "all"
    return row(name, what, param_dtype, moment_dtype, *gigabytes(*held, sum(held)))


def activations_row(name, rank, param_dtype, dtype, remat, prompt, response) -> str:
    """What the backward pass of one response keeps, besides the parameters; its prompt was read before."""
    flags = {
        "lora.rank": rank,
        "model.param_dtype": param_dtype,
        "model.compute_dtype": dtype,
        "model.remat": remat,
    }
    model, frozen, trained = parts(resolve(from_flat(flags)), name)
    ints = partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    prompts = Prompts(ints((1, prompt)), ints((1,)))
    states = jax.eval_shape(
        lambda *args: read_prompts(model, lora.join(*args[:2]), args[2], xla),
        frozen,
        trained,
        prompts,
    )

    def backward(frozen, trained, states, *batch):
        def score(trained, states):
            return response_logprobs(
                model,
                lora.join(frozen, trained),
                states,
                *batch,
                temperature=1.0,
                attention=xla,
                shards=1,
            )[0]

        return jax.vjp(score, trained, states)[1]

    batch = ints((1,)), ints((1,)), ints((1, response))  # the prompt's length, its number, tokens
    kept = jax.tree.leaves(jax.eval_shape(backward, frozen, trained, states, *batch))
    of_parameters = [(x.shape, x.dtype) for x in jax.tree.leaves((frozen, trained))]
    for leaf in list(kept):
        if (leaf.shape, leaf.dtype) in of_parameters:
            of_parameters.remove((leaf.shape, leaf.dtype))
            kept.remove(leaf)
    what = f"adapters, rank {rank}" if rank else "all"
    size = gigabytes(nbytes(kept))
    return row(name, what, param_dtype, dtype, remat, prompt, response, *size)


def cache_row(name, dtype) -> str:
    programs = Programs(
        Decoder(KNOWN[name]), make_mesh(), longest=32, eos_ids=(0,), kv_dtype=jnp.dtype(dtype)
    )
    size = nbytes(jax.eval_shape(lambda: programs.empty(1, 4096)))
    return row(name, dtype, f"{size // 4096:,}", f"{size / 1e9:.3f}")


@pytest.mark.parametrize("case", STATES, ids=str)
def test_the_state(case):
    assert state_row(*case) in DOCUMENT


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_the_activations(case):
    assert activations_row(*case) in DOCUMENT


@pytest.mark.parametrize("case", CACHES, ids=str)
def test_the_cache(case):
    assert cache_row(*case) in DOCUMENT


def test_every_row_of_the_document_is_checked():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith(("| Qwen", "| DeepSeek"))]
    assert len(rows) == len(set(rows)) == len(STATES) + len(ACTIVATIONS) + len(CACHES)
