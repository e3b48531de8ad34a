"""The formulas against counts by hand, against each other, and against what XLA counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import work
from riskpo_jax.models import masks
from riskpo_jax.models.attention import masked
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.known import known
from riskpo_jax.models.partitioning import abstract_params

HAND = DecoderConfig(
    vocab_size=10,
    hidden_size=4,
    intermediate_size=6,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=6,
)


def test_parameters_are_those_of_the_model():
    config = known("Qwen2.5-1.5B")
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda box: box.unbox(), abstract_params(Decoder(config)), is_leaf=_is_box)
        )
    }
    matrices = [n for name, n in sizes.items() if not name.endswith(("scale", "bias"))]
    assert sum(matrices) == work.layer_parameters(config) + work.head_parameters(config)


def _is_box(x) -> bool:
    return hasattr(x, "unbox")


def test_by_hand():
    """Two questions of 3 and 2 tokens with two responses each."""
    prompts, lengths = [3, 2], np.array([[1, 3], [2, 1]])
    # q: 4 x 12, k and v: 4 x 6 each, o: 12 x 4, three of 4 x 6
    assert work.layer_parameters(HAND) == 3 * (48 + 24 + 24 + 48 + 3 * 24)
    # prompts: 1+2+3, 1+2; responses' queries: none; 4, 5; 3; none
    assert work.causal_pairs(prompts, lengths) == 9 + 9 + 3
    # 5 prompt tokens and 3 responses' that something follows; 7 drawn tokens; 2 products of 2 heads x 6
    expected = 2 * 648 * 8 + 2 * 40 * 7 + 3 * 2 * (2 * 2 * 6) * 21
    assert work.forward_flops(HAND, prompts, lengths) == expected
    assert work.update_flops(HAND, prompts, lengths) == 3 * expected
    # 2 steps: weights twice; prompt of question 0 twice, of 1 once; responses: 1+2, 1 tokens
    expected = 2 * (648 + 40) * 4 + (2 * 3 + 2 + 3 + 1) * 2 * 3 * 6 * 2
    assert work.decode_bytes(HAND, prompts, lengths, 4, 2) == expected


def test_responses_of_one_token_need_no_decoding():
    assert work.decode_bytes(HAND, [3, 2], np.ones((2, 2), int), 4, 4) == 0


@pytest.mark.parametrize("T", [64, 128])
def test_as_xla_counts_them(T):
    """One row and one layer, of which XLA counts all, with dense attention: norms etc. stay small."""
    config = DecoderConfig(
        vocab_size=384,
        hidden_size=128,
        intermediate_size=512,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
    )
    model = Decoder(config)

    def loss(params, tokens):
        mask = masks.causal(jnp.ones((1, T), bool))
        hidden, _ = model.apply({"params": params}, tokens, jnp.arange(T)[None], masked(mask))
        return model.apply({"params": params}, hidden, method="unembed").sum()

    tokens = jax.ShapeDtypeStruct((1, T), jnp.int32)
    params = jax.tree.map(lambda box: box.unbox(), abstract_params(model), is_leaf=_is_box)
    counted = [
        jax.jit(f).lower(params, tokens).compile().cost_analysis()["flops"]
        for f in (loss, jax.grad(loss))
    ]
    matrices = work.layer_parameters(config) + work.head_parameters(config)
    forward = 2 * matrices * T + work.attention_flops(config, T * T)
    assert forward == pytest.approx(counted[0], rel=0.05)
    assert 3 * forward == pytest.approx(counted[1], rel=0.05)
