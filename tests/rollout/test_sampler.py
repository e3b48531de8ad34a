"""The sampler against whole forward passes, and all that a response must not depend on.

What a whole forward pass over a finished row says of token t is what one over its first t tokens said: so
one pass replays the sampler without cache, slots or loop.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.compilation import CompileCounter
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.models.attention import masked
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler, decode_responses
from riskpo_jax.rollout.sampling import SamplingParams, sample_token
from riskpo_jax.rollout.session import Session, in_order
from riskpo_jax.sharding import make_mesh
from riskpo_jax.types import Prompts

LENGTHS = (5, 1, 3, 4)
Q, G, P = len(LENGTHS), 3, 5
N = Q * G
SHORT, LONG = 9, 70  # 70 tokens take three blocks of the timeline
EOS = (3, 11)
PLAIN, GREEDY = SamplingParams(), SamplingParams(temperature=0.0)
KEY = jax.random.key(4)


def prompts(width=P, padding=7):
    """The same questions in `width` slots; the padding holds an arbitrary token."""
    rng = np.random.default_rng(0)
    tokens = np.full((Q, width), padding, np.int32)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[:length] = rng.integers(0, 23, length)
    return Prompts(tokens, np.array(LENGTHS, np.int32))


@pytest.fixture(scope="module")
def make_programs(tiny_model):
    """Programs of the tiny model; two with the same settings are one, compiled once."""
    made = {}

    def make_programs(longest, eos_ids=EOS, model=tiny_model, **settings):
        name = longest, eos_ids, model, tuple(settings.items())
        if name not in made:
            made[name] = Programs(model, make_mesh(), longest=longest, eos_ids=eos_ids, **settings)
        return made[name]

    return make_programs


@pytest.fixture(scope="module")
def replay(tiny_model):
    """(params, key, prompts, rollout, sampling, first) -> tokens and log-probabilities, [N, R].

    Slots beyond a response's length hold 0.
    """

    @jax.jit
    def logits_of(params, tokens_NxT):
        N, T = tokens_NxT.shape
        positions = jnp.broadcast_to(jnp.arange(T), (N, T))
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool)), (N, T, T))
        hidden, _ = tiny_model.apply({"params": params}, tokens_NxT, positions, masked(mask))
        return tiny_model.apply({"params": params}, hidden, method="unembed")

    def replay(params, key, prompts, rollout, sampling, first=0):
        N, R = rollout.tokens.shape
        starts = np.repeat(prompts.lengths, N // len(prompts.lengths))
        rows = np.zeros((N, P + R), np.int32)
        for n, (start, length) in enumerate(zip(starts, rollout.lengths, strict=True)):
            prompt = prompts.tokens[n * len(prompts.lengths) // N, :start]
            rows[n, : start + length] = [*prompt, *rollout.tokens[n, :length]]
        n, t = np.nonzero(np.arange(R) < rollout.lengths[:, None])
        logits = logits_of(params, rows)[n, starts[n] + t - 1]
        of_responses = jax.vmap(jax.random.fold_in, (None, 0))(key, first + n)
        keys = jax.vmap(jax.random.fold_in)(of_responses, t)
        drawn, _ = sample_token(keys, logits, sampling)
        tempered = np.float64(logits) / (sampling.temperature or 1.0)
        tokens, logprobs = np.zeros((N, R), np.int32), np.zeros((N, R))
        tokens[n, t] = drawn
        chosen = tempered[np.arange(len(n)), rollout.tokens[n, t]]
        logprobs[n, t] = chosen - np.log(np.exp(tempered).sum(axis=1))
        return tokens, logprobs

    return replay


def assert_ends(rollout, limits_N, eos_ids=EOS):
    """At the first end token or at the limit, and nothing beyond."""
    for tokens, length, truncated, limit in zip(
        rollout.tokens, rollout.lengths, rollout.truncated, limits_N, strict=True
    ):
        assert 1 <= length <= limit
        ends = np.isin(tokens[:length], eos_ids)
        assert not ends[:-1].any() and truncated == (not ends[-1])
        assert length == limit or not truncated
    beyond = np.arange(rollout.tokens.shape[1]) >= rollout.lengths[:, None]
    assert not rollout.tokens[beyond].any() and not rollout.logprobs[beyond].any()


def assert_same(found, expected):
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_array_equal(found.truncated, expected.truncated)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-5)


@pytest.mark.parametrize(
    ("group_size", "sampling"),
    [
        (G, PLAIN),
        (1, SamplingParams(temperature=1.7, top_k=9, top_p=0.95)),
        (G, GREEDY),
    ],
)
def test_equals_a_whole_forward_pass_for_every_token(
    make_programs, replay, tiny_params, group_size, sampling
):
    sampler = Sampler(make_programs(SHORT), slots=Q * group_size)
    rollout = sampler(tiny_params, KEY, prompts(), group_size, sampling)
    tokens, logprobs = replay(tiny_params, KEY, prompts(), rollout, sampling)
    assert rollout.tokens.shape == (Q * group_size, SHORT)
    np.testing.assert_array_equal(rollout.tokens, tokens)
    np.testing.assert_allclose(rollout.logprobs, logprobs, atol=1e-5)
    assert_ends(rollout, np.full(Q * group_size, SHORT))


def test_rows_end_at_either_end_token_or_at_the_limit(make_programs, tiny_params):
    sampler = Sampler(make_programs(SHORT), slots=N)
    rollout = sampler(tiny_params, KEY, prompts(), G, PLAIN)
    last = rollout.tokens[np.arange(N), rollout.lengths - 1]
    assert set(last[~rollout.truncated].tolist()) == set(EOS)
    assert rollout.truncated.any() and not rollout.truncated.all()


def test_what_pads_the_prompts_changes_nothing(make_programs, tiny_params):
    sampler = Sampler(make_programs(SHORT), slots=N)
    narrow = sampler(tiny_params, KEY, prompts(), G, PLAIN)
    assert_same(sampler(tiny_params, KEY, prompts(width=40, padding=2), G, PLAIN), narrow)


def test_a_group_shares_its_prompt_and_nothing_else(make_programs, tiny_params):
    sampler, group = Sampler(make_programs(SHORT), slots=128), 32
    rollout = sampler(tiny_params, KEY, prompts(), group, PLAIN)
    first = rollout.tokens[:, 0].reshape(Q, group)
    logprobs = rollout.logprobs[:, 0].reshape(Q, group)
    for q in range(Q):
        drawn = np.unique(first[q])
        assert len(drawn) > 5
        for token in drawn:  # has one probability in its group
            assert np.ptp(logprobs[q][first[q] == token]) < 1e-6
    greedy = sampler(tiny_params, KEY, prompts(), group, GREEDY).tokens.reshape(Q, group, -1)
    np.testing.assert_array_equal(greedy, np.broadcast_to(greedy[:, :1], greedy.shape))
    assert (greedy[0, 0] != greedy[1, 0]).any()


LIMITS = np.array([70, 3, 33, 64, 1, 32, 12, 70, 65, 31, 2, 50])
RARE, NEVER = (8,), (-1,)  # end tokens that are drawn seldom, and not at all


@pytest.fixture(scope="module")
def long(make_programs, tiny_params):
    """Responses of very different lengths, some of three blocks, all of them decoded side by side."""
    sampler = Sampler(make_programs(LONG, RARE), slots=N)
    return sampler(tiny_params, KEY, prompts(), G, PLAIN, limits_N=LIMITS)


def test_long_responses_are_those_of_a_whole_forward_pass(long, replay, tiny_params):
    tokens, logprobs = replay(tiny_params, KEY, prompts(), long, PLAIN)
    np.testing.assert_array_equal(long.tokens, tokens)
    np.testing.assert_allclose(long.logprobs, logprobs, atol=1e-5)
    assert_ends(long, LIMITS, RARE)
    assert long.lengths.max() > 64 and 0 < long.truncated.sum() < N


def test_others_keep_their_prompt_when_a_question_is_complete_and_slots_become_fewer(
    make_programs, replay, tiny_params
):
    """The first question leaves a prompt slot empty, while as many prompt slots stay."""
    limits = np.array([1, 2, 3, 2] + [40, 1, 50, 2] + [60, 45, 1, 3])
    sampler = Sampler(make_programs(LONG, NEVER), slots=N)
    found = sampler(tiny_params, KEY, prompts(), G, PLAIN, limits_N=limits)
    np.testing.assert_array_equal(found.lengths, limits)
    tokens, logprobs = replay(tiny_params, KEY, prompts(), found, PLAIN)
    np.testing.assert_array_equal(found.tokens, tokens)
    np.testing.assert_allclose(found.logprobs, logprobs, atol=1e-5)


@pytest.mark.parametrize(("slots", "steps"), [(7, 5), (40, 1)])
def test_a_response_does_not_depend_on_slots_nor_on_when_the_host_looks(
    make_programs, long, tiny_params, slots, steps
):
    sampler = Sampler(make_programs(LONG, RARE, steps_per_sync=steps), slots)
    found = sampler(tiny_params, KEY, prompts(), G, PLAIN, limits_N=LIMITS)
    assert_same(found, long)


def test_nor_on_blocks_of_the_timeline_that_were_forgotten(make_programs, long, tiny_params):
    """In few slots all of this takes longer than the longest response, and no more memory than that."""
    programs = make_programs(LONG, RARE)
    session = Session(programs, tiny_params, KEY, prompts(), LIMITS, PLAIN, slots=4, first=0)
    held, parts = [], []
    for part in session.run():
        held.append(len(session.blocks))
        parts.append(part)
    assert_same(in_order(parts), long)
    forgotten = -session.seating.begin_N.min() // programs.block
    assert forgotten >= 2 and max(held) <= -(-LONG // programs.block)


def test_nor_on_the_questions_beside_its_own(make_programs, long, tiny_params):
    """The last two alone, numbered as they were: so an evaluation is taken up where it was cut off."""
    sampler = Sampler(make_programs(LONG, RARE), slots=6)
    last, tail = slice(2 * G, None), jax.tree.map(lambda x: x[2:], prompts())
    settings = {"limits_N": LIMITS[last]}
    found = sampler(tiny_params, KEY, tail, G, PLAIN, first=2 * G, **settings)
    assert_same(found, jax.tree.map(lambda x: x[last], long))
    other = sampler(tiny_params, KEY, tail, G, PLAIN, **settings)
    assert (other.tokens[:, :2] != found.tokens[:, :2]).any()


def test_another_key_draws_other_tokens_and_compiles_nothing(make_programs, tiny_params):
    """Nor do other prompts, of other lengths in the same bucket."""
    sampler = Sampler(make_programs(SHORT, (-1,), steps_per_sync=3), slots=N)
    limits, other = (
        np.resize([9, 4, 1, 7], N),
        Prompts(prompts().tokens, np.array([2, 4, 5, 1], np.int32)),
    )
    first = sampler(tiny_params, KEY, prompts(), G, PLAIN, limits_N=limits)
    with contextlib.closing(CompileCounter()) as compiled:
        second = sampler(tiny_params, jax.random.key(9), prompts(), G, PLAIN, limits_N=limits)
        sampler(tiny_params, jax.random.key(9), other, G, PLAIN, limits_N=limits)
    assert compiled.count == 0
    np.testing.assert_array_equal(first.lengths, second.lengths)
    assert (first.tokens[:, 0] != second.tokens[:, 0]).mean() > 0.7


@pytest.mark.parametrize(("kv_dtype", "tolerance"), [("int8", 0.02), ("bfloat16", 0.01)])
def test_a_cache_of_few_bits_is_off_by_little(
    make_programs, replay, tiny_params, kv_dtype, tolerance
):
    """Log-probabilities of what was drawn, root mean square, against a whole forward pass in float32."""
    programs = make_programs(LONG, RARE, kv_dtype=jnp.dtype(kv_dtype))
    sampler, limits = Sampler(programs, slots=N), np.full(N, 50)
    rollout = sampler(tiny_params, KEY, prompts(), G, PLAIN, limits_N=limits)
    _, logprobs = replay(tiny_params, KEY, prompts(), rollout, PLAIN)
    drawn = np.arange(LONG) < rollout.lengths[:, None]
    error = np.sqrt(np.mean((rollout.logprobs - logprobs)[drawn] ** 2))
    assert rollout.lengths.max() > programs.block  # so that a block was put away
    assert 1e-5 < error < tolerance


def test_one_response_to_one_question(make_programs, replay, tiny_params):
    one = jax.tree.map(lambda x: x[2:3], prompts())
    for slots in (1, 8):
        rollout = Sampler(make_programs(SHORT), slots)(tiny_params, KEY, one, 1, PLAIN)
        tokens, _ = replay(tiny_params, KEY, one, rollout, PLAIN)
        np.testing.assert_array_equal(rollout.tokens, tokens)


def test_questions_come_once_each_while_the_devices_go_on(make_programs, tiny_params, monkeypatch):
    """So that verdicts are found while the devices sample."""
    programs, events = make_programs(SHORT, eos_ids=(-1,), steps_per_sync=3), []
    decode = programs.decode

    def recorded(*args, **settings):
        events.append("decode")
        return decode(*args, **settings)

    monkeypatch.setattr(programs, "decode", recorded)
    sampler, limits = Sampler(programs, slots=2 * G), np.repeat([3, 6, 3, 6], G)
    for questions, rollout in sampler.stream(
        tiny_params, KEY, prompts(), G, PLAIN, limits_N=limits
    ):
        events += questions
        wanted = limits.reshape(Q, G)[questions].reshape(-1)
        np.testing.assert_array_equal(rollout.lengths, wanted)
    # Questions 0 and 2 follow each other in the same slots, and 1 and 3.
    assert events == ["decode", "decode", 0, "decode", 1, 2, "decode", 3]


def test_text_ends_at_the_length_and_leaves_special_tokens_out():
    tokenizer = byte_tokenizer()
    ids = tokenizer("2+3 = 5?")["input_ids"]
    end = tokenizer.eos_token_id
    rows = np.array([[*ids, end, 0], [*ids, *ids[:2]], [end, *ids, 0]])
    lengths = np.array([len(ids) + 1, 3, 1])
    assert decode_responses(tokenizer, rows, lengths) == ["2+3 = 5?", "2+3", ""]
