"""The cached decode loop against a slow sampler without cache, padding or loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.rollout.generate import generate
from riskpo_jax.rollout.sampling import SamplingParams, sample_token
from riskpo_jax.types import Prompts

LENGTHS = (5, 1, 3)
Q, G, P, R = len(LENGTHS), 4, 5, 9
EOS = (3, 11)
PLAIN, GREEDY = SamplingParams(), SamplingParams(temperature=0.0)


def prompts(width=P):
    """The same questions in `width` slots; the padding holds an arbitrary token."""
    rng = np.random.default_rng(0)
    tokens = np.full((Q, width), 7, np.int32)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[width - length :] = rng.integers(0, 23, length)
    return Prompts(tokens, np.array(LENGTHS, np.int32))


class Counting:
    """A model that records the shape of every forward pass when it is executed."""

    def __init__(self, model):
        self.model, self.config, self.dtype, self.forwards = model, model.config, model.dtype, []

    def apply(self, variables, *args, method=None):
        if method is None:
            shape = args[0].shape
            jax.debug.callback(lambda: self.forwards.append(shape))
        return self.model.apply(variables, *args, method=method)


@pytest.fixture(scope="module")
def sample(tiny_model):
    """Jitted `generate`, compiled once a setting."""

    @functools.partial(jax.jit, static_argnames=("group_size", "sampling"))
    def sample(params, key, prompts, *, group_size=G, sampling=PLAIN):
        return generate(
            tiny_model,
            params,
            key,
            prompts,
            group_size=group_size,
            max_response_length=R,
            sampling=sampling,
            eos_ids=EOS,
        )

    return sample


@pytest.fixture(scope="module")
def next_logits(tiny_model):
    """Logits after each row's tokens, from a whole forward pass of right-padded rows."""

    @jax.jit
    def next_logits(params, tokens_NxT, lengths_N):
        N, T = tokens_NxT.shape
        positions = jnp.broadcast_to(jnp.arange(T), (N, T))
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool)), (N, T, T))
        hidden, _ = tiny_model.apply({"params": params}, tokens_NxT, positions, mask)
        logits = tiny_model.apply({"params": params}, hidden, method="unembed")
        return logits[jnp.arange(N), lengths_N - 1]

    return next_logits


def slow_sample(next_logits, params, key, prompts, group_size, sampling):
    """(tokens, log-probabilities) of every row as lists: one whole forward pass a token."""
    rows = [
        prompts.tokens[q, P - length :].tolist()
        for q, length in enumerate(LENGTHS)
        for _ in range(group_size)
    ]
    starts = [len(row) for row in rows]
    logprobs = [[] for _ in rows]
    done = [False] * len(rows)
    for step in range(R):
        padded = np.array([row + [0] * (P + R - len(row)) for row in rows], np.int32)
        logits = next_logits(params, padded, np.array([len(row) for row in rows]))
        tokens, _ = sample_token(jax.random.fold_in(key, step), logits, sampling)
        tempered = np.float64(logits) / (sampling.temperature or 1.0)
        normaliser = np.log(np.exp(tempered).sum(axis=1))
        for n, token in enumerate(np.asarray(tokens).tolist()):
            if not done[n]:
                rows[n].append(token)
                logprobs[n].append(tempered[n, token] - normaliser[n])
                done[n] = token in EOS
    return [row[start:] for row, start in zip(rows, starts, strict=True)], logprobs


@pytest.mark.parametrize(
    ("group_size", "sampling"),
    [
        (G, PLAIN),
        (1, SamplingParams(temperature=1.7, top_k=9, top_p=0.95)),
        (G, GREEDY),
    ],
)
def test_equals_a_whole_forward_pass_for_every_token(
    sample, next_logits, tiny_params, group_size, sampling
):
    key = jax.random.key(4)
    rollout = sample(tiny_params, key, prompts(), group_size=group_size, sampling=sampling)
    tokens, logprobs = slow_sample(next_logits, tiny_params, key, prompts(), group_size, sampling)
    assert rollout.tokens.shape == rollout.logprobs.shape == (Q * group_size, R)
    for n, (ids, values) in enumerate(zip(tokens, logprobs, strict=True)):
        beyond = R - len(ids)
        assert int(rollout.lengths[n]) == len(ids)  # the end token counts
        assert bool(rollout.truncated[n]) == (ids[-1] not in EOS)
        np.testing.assert_array_equal(rollout.tokens[n], ids + [0] * beyond)
        np.testing.assert_allclose(rollout.logprobs[n], values + [0.0] * beyond, atol=1e-5)


def test_rows_end_at_either_end_token_or_at_the_limit(sample, tiny_params):
    rollout = sample(tiny_params, jax.random.key(4), prompts())
    last = np.asarray(rollout.tokens)[np.arange(Q * G), np.asarray(rollout.lengths) - 1]
    assert set(last[~np.asarray(rollout.truncated)].tolist()) == set(EOS)
    assert rollout.truncated.any()
    assert (np.asarray(rollout.lengths)[np.asarray(rollout.truncated)] == R).all()


def test_left_padding_changes_nothing(sample, tiny_params):
    key = jax.random.key(4)
    narrow = sample(tiny_params, key, prompts())
    wide = sample(tiny_params, key, prompts(width=12))
    np.testing.assert_array_equal(narrow.tokens, wide.tokens)
    np.testing.assert_array_equal(narrow.lengths, wide.lengths)
    np.testing.assert_allclose(narrow.logprobs, wide.logprobs, atol=1e-5)


def test_a_group_shares_its_prompt_and_nothing_else(sample, tiny_params):
    rollouts = [sample(tiny_params, jax.random.key(seed), prompts()) for seed in range(16)]
    first = np.stack([r.tokens[:, 0] for r in rollouts]).reshape(-1, Q, G)
    logprobs = np.stack([r.logprobs[:, 0] for r in rollouts]).reshape(-1, Q, G)
    for q in range(Q):
        drawn = np.unique(first[:, q])
        assert len(drawn) > 5
        for token in drawn:  # has one probability in its group
            assert np.ptp(logprobs[:, q][first[:, q] == token]) < 1e-6
    greedy = sample(tiny_params, jax.random.key(4), prompts(), sampling=GREEDY)
    by_group = np.asarray(greedy.tokens).reshape(Q, G, R)
    np.testing.assert_array_equal(by_group, np.broadcast_to(by_group[:, :1], (Q, G, R)))
    assert (by_group[0, 0] != by_group[1, 0]).any()


@pytest.mark.parametrize("eos_ids", [EOS, tuple(range(23))])
def test_prefill_runs_once_a_question_and_the_loop_stops_when_all_are_done(
    tiny_model, tiny_params, eos_ids
):
    limit = 200
    model = Counting(tiny_model)
    rollout = jax.jit(
        lambda params, key, prompts: generate(
            model,
            params,
            key,
            prompts,
            group_size=G,
            max_response_length=limit,
            sampling=PLAIN,
            eos_ids=eos_ids,
        )
    )(tiny_params, jax.random.key(0), prompts())
    longest = int(rollout.lengths.max())
    jax.effects_barrier()
    assert longest < limit and not rollout.truncated.any()
    assert model.forwards == [(Q, P)] + [(Q * G, 1)] * (longest - 1)
    assert len(eos_ids) < 23 or longest == 1
