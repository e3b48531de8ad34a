"""Attention of a decode step, part by part, against one softmax over everything in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.models.attention import KV
from riskpo_jax.rollout.cache import Int8, store_kv
from riskpo_jax.rollout.decode import Slots, attend, written
from riskpo_jax.rollout.seating import Seating

SHARDS, G, K, g, D, P, T = 2, 3, 2, 2, 8, 5, 4
S = 8
BLOCKS, FILLED = 2, 3  # full blocks of the timeline, places of the one that is being filled
NOW = BLOCKS * T + FILLED


@pytest.fixture(scope="module")
def slots():
    """Responses that began at different places; one of four slots of each shard is empty."""
    seating = Seating(6, G, SHARDS, S)
    seating.admit(0)
    seating.release(seating.responses[[1, 6]])
    seating.admit(5)
    seating.release(seating.responses[[3, 7]])
    prompt, member, members = seating.tables()
    responses = seating.responses
    begin = np.where(responses < 0, 0, seating.begin_N[responses])
    begin[0] = NOW  # which sees its prompt and itself
    return responses, Slots(
        token=None, drawn=None, alive=responses >= 0, limit=None, key=None, begin=begin,
        prompt=prompt, member=member, members=members,
    )  # fmt: skip


def random_kv(rng, rows, length, scale=1.0):
    return KV(*(scale * rng.standard_normal((2, rows, K, length, D), np.float32)))


@pytest.fixture(scope="module")
def parts(slots):
    """q, the token's own KV, the prompts and their lengths, and the blocks; scores reach tens."""
    rng = np.random.default_rng(0)
    Q = slots[1].members.size // G
    q = 4 * rng.standard_normal((S, 1, K * g, D), np.float32)
    blocks = [random_kv(rng, S, T, scale) for scale in (1.0, 3.0, 0.5)]
    lengths = rng.integers(0, P + 1, Q).astype(np.int32)
    lengths[0] = 0  # a prompt of one token, which is the one being decoded at first
    return q, random_kv(rng, S, 1), random_kv(rng, Q, P), lengths, blocks


@pytest.fixture(scope="module")
def run(slots, parts):
    """run(prompts, full blocks, the recent one) -> [S, 1, H, D]."""
    q, kv, _, lengths, _ = parts

    @jax.jit
    def run(prompts, full, recent):
        return attend(SHARDS, slots[1], lengths, NOW, q, KV(*kv), (prompts, tuple(full), recent))

    return run


def stored(kv, dtype):
    return store_kv(KV(*map(jnp.asarray, kv)), dtype)


def as_float64(kv):
    """What the stored arrays stand for."""

    def whole(x):
        values = x.values * np.float64(x.scale)[..., None] if isinstance(x, Int8) else x
        return np.float64(values)

    return KV(whole(kv.k), whole(kv.v))


def one_softmax(slots, q, kv, prompts, lengths, blocks):
    """[S, H, D] by the definition, slot by slot."""
    Q = len(lengths) // SHARDS
    y = np.zeros((S, K * g, D))
    for s in range(S):
        prompt = s // (S // SHARDS) * Q + slots.prompt[s]
        timeline = [np.concatenate([getattr(b, x)[s] for b in blocks], axis=1) for x in "kv"]
        k, v = (
            np.concatenate(
                [
                    getattr(prompts, x)[prompt][:, : lengths[prompt]],
                    timeline["kv".index(x)][:, slots.begin[s] : NOW],
                    getattr(kv, x)[s],
                ],
                axis=1,
            )
            for x in "kv"
        )
        for h in range(K * g):
            scores = k[h // g] @ np.float64(q[s, 0, h]) / np.sqrt(D)
            weights = np.exp(scores - scores.max())
            y[s, h] = weights @ v[h // g] / weights.sum()
    return y


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int8])
def test_parts_merge_to_one_softmax(slots, parts, run, dtype):
    """To float32's precision, also of what int8 stands for."""
    responses, slots = slots
    q, kv, prompts, lengths, (*full, recent) = parts
    prompts, full = stored(prompts, dtype), [stored(block, dtype) for block in full]
    found = run(prompts, full, recent)
    blocks = [as_float64(block) for block in (*full, recent)]
    expected = one_softmax(slots, q, as_float64(kv), as_float64(prompts), lengths, blocks)
    sitting = responses >= 0
    assert not sitting.all()
    np.testing.assert_allclose(np.asarray(found)[sitting, 0], expected[sitting], atol=2e-5)


def test_int8_is_close_to_float32(slots, parts, run):
    """Scores of a standard deviation of about 4 move by some hundredths, and the outputs by as much."""
    prompts, (*full, recent) = parts[2], parts[4]
    float32, int8 = (
        run(stored(prompts, dtype), [stored(block, dtype) for block in full], recent)[slots[0] >= 0]
        for dtype in (jnp.float32, jnp.int8)
    )
    error = np.linalg.norm(int8 - float32) / np.linalg.norm(float32)
    assert 1e-4 < error < 0.03


def test_what_nobody_sees_does_not_matter(slots, parts, run):
    """Beyond a prompt's length, before a response's begin, from `now` on: any finite value will do."""
    responses, slots = slots
    _, _, prompts, lengths, blocks = parts
    hidden_prompt = np.arange(P) >= lengths[:, None]
    place = np.arange(3 * T).reshape(3, 1, T)
    unseen = (place < slots.begin[:, None]) | (place >= NOW)

    def with_garbage(garbage):
        def refilled(kv, hidden):
            return KV(*(np.where(hidden[:, None, :, None], np.float32(garbage), x) for x in kv))

        *full, recent = [refilled(b, u) for b, u in zip(blocks, unseen, strict=True)]
        return run(refilled(prompts, hidden_prompt), full, recent)[responses >= 0]

    np.testing.assert_allclose(with_garbage(0.0), with_garbage(1e4), atol=1e-6)


def test_a_token_is_written_at_its_place_of_the_timeline():
    rng = np.random.default_rng(0)
    block = KV(*rng.standard_normal((2, 3, S, K, T, D), np.float32))
    new = KV(*rng.standard_normal((2, 3, S, K, 1, D), np.float32))
    found = jax.jit(written)(block, new, jnp.int32(2))
    for before, token, after in zip(block, new, found, strict=True):
        np.testing.assert_array_equal(after[..., 2:3, :], token)
        np.testing.assert_array_equal(np.delete(after, 2, axis=-2), np.delete(before, 2, axis=-2))
