"""Masks against the contract, spelled out slot by slot."""

import jax.numpy as jnp
import numpy as np

from riskpo_jax.models import masks

P, R = 4, 3
PROMPTS, RESPONSES = jnp.array([4, 1, 2, 3]), jnp.array([3, 0, 1, 2])


def test_valid_slots_and_positions():
    valid = np.asarray(masks.valid_slots(PROMPTS, RESPONSES, P, R))
    positions = np.asarray(masks.positions_from_valid(valid))
    for n, (p, r) in enumerate(zip(PROMPTS.tolist(), RESPONSES.tolist(), strict=True)):
        for s in range(P + R):
            assert valid[n, s] == (P - p <= s < P + r)
            if valid[n, s]:
                assert positions[n, s] == s - (P - p)
    assert positions.min() >= 0 and positions.dtype == np.int32


def test_causal():
    valid = np.asarray(masks.valid_slots(PROMPTS, RESPONSES, P, R))
    mask = np.asarray(masks.causal(valid))
    assert mask.shape == (4, P + R, P + R)
    for n, t, s in np.ndindex(mask.shape):
        assert mask[n, t, s] == (valid[n, s] and s <= t)


def test_causal_of_a_chunk_is_a_piece_of_the_whole():
    valid = masks.valid_slots(PROMPTS, RESPONSES, P, R)
    whole = np.asarray(masks.causal(valid))
    for start, queries in ((0, 3), (2, 2), (P + R - 1, 1)):
        chunk = masks.causal(valid, jnp.int32(start), queries)
        np.testing.assert_array_equal(chunk, whole[:, start : start + queries])
