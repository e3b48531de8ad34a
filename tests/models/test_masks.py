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


SEGMENTS = np.array([[0, 1, 1, 2, 2, 2, 0], [7, 7, 3, 0, 0, 1, 1]])


def test_packed_sequences_see_only_themselves():
    mask = np.asarray(masks.packed(SEGMENTS))
    assert mask.shape == (2, 7, 7)
    for b, t, s in np.ndindex(mask.shape):
        same = SEGMENTS[b, t] == SEGMENTS[b, s] != 0
        assert mask[b, t, s] == (same and s <= t)


def test_positions_restart_with_every_segment():
    positions = np.asarray(masks.positions_from_segments(SEGMENTS))
    tokens = SEGMENTS > 0
    np.testing.assert_array_equal(positions[tokens], [0, 1, 0, 1, 2] + [0, 1, 0, 0, 1])
    assert positions.dtype == np.int32 and positions.min() >= 0


def test_one_segment_is_causal():
    valid = np.asarray(masks.valid_slots(PROMPTS, RESPONSES, P, R))
    tokens = valid[:, :, None]  # what a padding slot attends to does not matter
    np.testing.assert_array_equal(masks.packed(valid.astype(int)), masks.causal(valid) & tokens)
