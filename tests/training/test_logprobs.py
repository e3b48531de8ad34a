"""The trainer's log-probabilities: those of the sampler, in blocks or whole, with gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.masked import length_mask
from riskpo_jax.models.attention import xla
from riskpo_jax.models.prompts import read_prompts
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.training import logprobs
from riskpo_jax.training.logprobs import (
    chunked_token_logprobs,
    response_logprobs,
    token_logprobs,
)
from riskpo_jax.types import Prompts

N, R, M, V = 3, 7, 5, 11


def scores(model, params, prompts, question_N, tokens_NxR, temperature=1.0):
    """Log-probabilities and entropies of responses whose prompts are read once each."""
    return response_logprobs(
        model,
        params,
        read_prompts(model, params, prompts, xla),
        prompts.lengths,
        question_N,
        tokens_NxR,
        temperature=temperature,
        attention=xla,
        shards=1,
    )


@pytest.fixture(scope="module")
def score(tiny_model):
    return functools.partial(jax.jit(scores, static_argnums=0), tiny_model)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_the_first_ratio_is_one(score, tiny_sampler, tiny_params, prompts, temperature):
    key, sampling = jax.random.key(2), SamplingParams(temperature)
    rollout = tiny_sampler(tiny_params, key, prompts, 4, sampling)
    question_N = np.arange(16) // 4
    found, entropy = score(tiny_params, prompts, question_N, rollout.tokens, temperature)
    mask = length_mask(rollout.lengths, 8)
    assert not mask.all()
    ratios = np.exp(np.asarray(found - rollout.logprobs, np.float64))[mask]
    np.testing.assert_allclose(ratios, 1, atol=1e-5)
    assert np.isfinite(found).all() and np.isfinite(entropy).all()  # the padding too
    assert 0.05 < entropy[mask].mean() < np.log(23)


def test_responses_of_one_prompt_may_stand_in_any_order(score, tiny_params, experience):
    """Some prompts with many responses, some with none."""
    rows = np.array([9, 2, 3, 9, 0])
    tokens = experience.rollout.tokens
    expected = score(tiny_params, experience.prompts, np.arange(16) // 4, tokens)
    found = score(tiny_params, experience.prompts, rows // 4, tokens[rows])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b[rows], atol=1e-5)


@pytest.mark.parametrize("garbage", [0, 22])
def test_what_lies_in_the_padding_does_not_matter(score, tiny_params, experience, garbage):
    """Other tokens in the padding, and more of it, leave the scores of real tokens as they are."""
    prompts, rollout = experience.prompts, experience.rollout
    mask, question_N = length_mask(rollout.lengths, 8), np.arange(16) // 4
    expected = score(tiny_params, prompts, question_N, rollout.tokens)
    refilled = np.where(np.arange(5) < prompts.lengths[:, None], prompts.tokens, garbage)
    refilled = np.pad(refilled, ((0, 0), (0, 2)), constant_values=garbage)
    tokens = np.pad(np.where(mask, rollout.tokens, garbage), ((0, 0), (0, 3)))
    found = score(tiny_params, Prompts(refilled, prompts.lengths), question_N, tokens)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[:, :8][mask], b[mask], atol=1e-5)


def test_token_logprobs_and_entropy_by_their_definitions():
    logits = 3 * jax.random.normal(jax.random.key(0), (2, 4, V))
    targets = jax.random.randint(jax.random.key(1), (2, 4), 0, V)
    found, entropy = token_logprobs(logits, targets)
    probs = np.exp(np.float64(logits))
    probs /= probs.sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(probs, np.asarray(targets)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found, np.log(chosen), atol=1e-5)
    np.testing.assert_allclose(entropy, -(probs * np.log(probs)).sum(axis=-1), atol=1e-5)
    _, uniform = token_logprobs(jnp.zeros((1, 1, V)), jnp.zeros((1, 1), int))
    assert float(uniform[0, 0]) == pytest.approx(np.log(V), rel=1e-6)


def test_gradients_of_token_logprobs_by_autodiff_of_their_definitions():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((2, 4, V), np.float32)
    targets = rng.integers(0, V, (2, 4))
    weights = rng.standard_normal((2, 2, 4)).astype(np.float32)

    def by_definition(logits):
        log_p = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
        return (weights * jnp.stack([chosen, -(jnp.exp(log_p) * log_p).sum(axis=-1)])).sum()

    found = jax.grad(lambda x: (weights * jnp.stack(token_logprobs(x, targets))).sum())(logits)
    np.testing.assert_allclose(found, jax.grad(by_definition)(logits), atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_blocks_change_neither_values_nor_gradients(monkeypatch, chunk):
    """Blocks of 3 and 6 of the 7 slots leave a last one that is padded."""
    rng = np.random.default_rng(0)
    head, hidden = (rng.standard_normal(s, np.float32) for s in ((M, V), (N, R, M)))
    targets = rng.integers(0, V, (N, R))
    weights = rng.standard_normal((2, N, R), np.float32)
    blocks = []

    def weighted_sum(head, hidden):
        def unembed(block):
            blocks.append(block.shape[1])
            return block @ head

        scores = jnp.stack(chunked_token_logprobs(unembed, hidden, targets, V))
        return (weights * scores).sum(), scores

    evaluate = jax.value_and_grad(weighted_sum, argnums=(0, 1), has_aux=True)
    expected = evaluate(head, hidden)
    assert set(blocks) == {R}
    blocks.clear()
    monkeypatch.setattr(logprobs, "_LOGITS_AT_ONCE", chunk * N * V)
    found = evaluate(head, hidden)
    assert set(blocks) == {chunk}
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_array_of_all_logits_exists_in_blocks(monkeypatch, tiny_model, tiny_params):
    """Neither forward nor backward: the largest array with a vocabulary axis is one block."""
    rows, slots, vocabulary = 2, 8, 23
    monkeypatch.setattr(logprobs, "_LOGITS_AT_ONCE", 2 * rows * vocabulary)

    def loss(params):
        tokens = jnp.ones((rows, slots), jnp.int32)
        prompts = Prompts(tokens, jnp.full((rows,), slots))
        logprobs, entropy = scores(tiny_model, params, prompts, jnp.arange(rows), tokens)
        return logprobs.sum() + entropy.sum()

    sizes = [
        value.aval.size
        for value in all_values(jax.make_jaxpr(jax.grad(loss))(tiny_params).jaxpr)
        if vocabulary in value.aval.shape and 32 not in value.aval.shape  # not the embedding
    ]
    assert max(sizes) == 2 * rows * vocabulary


def all_values(jaxpr):
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for parameter in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "jaxpr") or hasattr(x, "eqns")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from all_values(inner)
