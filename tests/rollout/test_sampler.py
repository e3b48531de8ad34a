"""The sampler against whole forward passes, and all that a response must not depend on.

What a whole forward pass over a finished row says of token t is what one over its first t tokens said: so
one pass replays the sampler without cache, slots or loop.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def assert_ends(rollout, limits_N):
    """At the first end token or at the limit, and nothing beyond."""
    for tokens, length, truncated, limit in zip(
        rollout.tokens, rollout.lengths, rollout.truncated, limits_N, strict=True
    ):
        assert 1 <= length <= limit
        ends = np.isin(tokens[:length], EOS)
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


class TestLongResponses:
    """Lengths of all kinds, over several blocks of the timeline."""

    LIMITS = np.array([70, 3, 33, 64, 1, 32, 12, 70, 65, 31, 2, 50])

    @pytest.fixture(scope="class")
    def params(self, tiny_params):
        """Under which an end token is rare, so that the limits decide and some responses end sooner."""
        rows = jnp.asarray(EOS)
        return {**tiny_params, "embedding": tiny_params["embedding"].at[rows].multiply(0.3)}

    @pytest.fixture(scope="class")
    def whole(self, make_programs, params):
        sampler = Sampler(make_programs(LONG), slots=N)
        return sampler(params, KEY, prompts(), G, PLAIN, limits_N=self.LIMITS)

    def test_are_those_of_a_whole_forward_pass(self, whole, replay, params):
        tokens, logprobs = replay(params, KEY, prompts(), whole, PLAIN)
        np.testing.assert_array_equal(whole.tokens, tokens)
        np.testing.assert_allclose(whole.logprobs, logprobs, atol=1e-5)
        assert_ends(whole, self.LIMITS)
        assert whole.lengths.max() > 64 and not whole.truncated.all()

    @pytest.mark.parametrize(("slots", "steps"), [(3, 16), (3, 4), (5, 16), (7, 64), (40, 1)])
    def test_do_not_depend_on_slots_nor_on_when_the_host_looks(
        self, make_programs, whole, params, slots, steps
    ):
        sampler = Sampler(make_programs(LONG, steps_per_sync=steps), slots)
        found = sampler(params, KEY, prompts(), G, PLAIN, limits_N=self.LIMITS)
        assert_same(found, whole)

    @pytest.mark.parametrize("slots", [3, 12])
    def test_outlive_the_first_blocks_of_the_timeline(self, make_programs, whole, params, slots):
        """In few slots all of this takes longer than the longest response, which alone fits in memory."""
        programs = make_programs(LONG)
        session = Session(
            programs, params, KEY, prompts(), self.LIMITS, PLAIN, slots=slots, first=0
        )
        held, parts = [], []
        for part in session.run():
            held.append(len(session.blocks))
            parts.append(part)
        assert_same(in_order(parts), whole)
        forgotten = -session.seating.begin_N.min() // programs.block
        assert forgotten >= (3 if slots == 3 else 0)
        assert max(held) <= -(-LONG // programs.block)

    def test_draw_by_their_number_and_not_by_their_place(self, make_programs, whole, params):
        """The last two questions alone, as an evaluation that is taken up again asks them."""
        sampler, last = Sampler(make_programs(LONG), slots=N), slice(2 * G, None)
        tail = jax.tree.map(lambda x: x[2:], prompts())
        found = sampler(
            params, KEY, tail, G, PLAIN, limits_N=self.LIMITS[last], first=2 * G
        )
        assert_same(found, jax.tree.map(lambda x: x[last], whole))
        other = sampler(params, KEY, tail, G, PLAIN, limits_N=self.LIMITS[last])
        assert (other.tokens != found.tokens).any()

    def test_draw_by_their_key(self, make_programs, whole, params):
        sampler = Sampler(make_programs(LONG), slots=N)
        other = sampler(
            params, jax.random.key(5), prompts(), G, PLAIN, limits_N=self.LIMITS
        )
        both = np.minimum(other.lengths, whole.lengths)
        differ = [
            (a[:k] != b[:k]).any() for a, b, k in zip(other.tokens, whole.tokens, both, strict=True)
        ]
        assert np.mean(differ) > 0.7

    def test_a_second_call_compiles_nothing(self, make_programs, whole, params, compiled):
        """Another key, other lengths within their buckets: every shape is known."""
        sampler = Sampler(make_programs(LONG), slots=N)
        other = Prompts(prompts(16).tokens, np.array([2, 4, 5, 1], np.int32))
        sampler(params, jax.random.key(8), prompts(16), G, PLAIN, limits_N=self.LIMITS)
        with compiled() as programs:
            found = sampler(params, jax.random.key(9), other, G, PLAIN, limits_N=self.LIMITS)
        assert not programs
        assert (found.lengths <= self.LIMITS).all()


def test_one_response_to_one_question(make_programs, replay, tiny_params):
    one = jax.tree.map(lambda x: x[2:3], prompts())
    for slots in (1, 8):
        rollout = Sampler(make_programs(SHORT), slots)(tiny_params, KEY, one, 1, PLAIN)
        tokens, _ = replay(tiny_params, KEY, one, rollout, PLAIN)
        np.testing.assert_array_equal(rollout.tokens, tokens)


def test_questions_come_once_each_while_the_devices_go_on(
    make_programs, tiny_params, monkeypatch
):
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
        np.testing.assert_array_equal(rollout.lengths, np.repeat([3, 6, 3, 6], G).reshape(Q, G)[questions].ravel())
    # Questions 0 and 2 follow each other in the same slots, and 1 and 3.
    assert events == ["decode", "decode", 0, "decode", 1, 2, "decode", 3]


def test_text_ends_at_the_length_and_leaves_special_tokens_out():
    tokenizer = byte_tokenizer()
    ids = tokenizer("2+3 = 5?")["input_ids"]
    end = tokenizer.eos_token_id
    rows = np.array([[*ids, end, 0], [*ids, *ids[:2]], [end, *ids, 0]])
    lengths = np.array([len(ids) + 1, 3, 1])
    assert decode_responses(tokenizer, rows, lengths) == ["2+3 = 5?", "2+3", ""]
