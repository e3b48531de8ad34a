"""How responses are cut into micro-batches: all of them once, behind their own prompts, within the budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.buckets import length_buckets
from riskpo_jax.training.micro_batches import Budget, Sequences, chunks, largest_chunk
from riskpo_jax.types import Prompts, Rollout

quick = settings(deadline=None, max_examples=100)
P, R = 40, 100


def sequences(Q, G, seed):
    """Every number tells which prompt or response it stands in."""
    rng = np.random.default_rng(seed)
    lengths_Q, lengths_N = rng.integers(1, P + 1, Q), rng.integers(1, R + 1, Q * G)
    prompts, rollout = (
        np.where(np.arange(width) < lengths[:, None], 1 + np.arange(len(lengths))[:, None], -1)
        for width, lengths in ((P, lengths_Q), (R, lengths_N))
    )
    rollout = Rollout(rollout, lengths_N, 0.5 * rollout, np.zeros(Q * G, bool))
    return Sequences(Prompts(prompts, lengths_Q), rollout, advantages=10.0 + np.arange(Q * G))


@st.composite
def cases(draw):
    Q, G, shards = draw(st.integers(1, 9)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    questions = draw(st.permutations(range(Q)))[: draw(st.integers(1, Q))]
    share = -(-len(questions) // shards)
    budget = Budget(draw(st.integers(1, 600)), share, share * G)
    return sequences(Q, G, draw(st.integers(0, 99))), questions, budget, shards, G


def rows_by_shard(x, shards):
    return np.asarray(x).reshape(shards, -1, *x.shape[1:])


@quick
@given(cases())
def test_every_response_stands_once_behind_its_own_prompt(case):
    given_, questions, budget, shards, G = case
    seen = []
    for prompts, batches in chunks(given_, questions, budget, shards):
        tokens_QxP, lengths_Q = (
            rows_by_shard(x, shards) for x in (prompts.tokens, prompts.lengths)
        )
        for batch in batches:
            fields = (batch.number, batch.question, batch.tokens, batch.lengths)
            fields += (batch.behaviour_logprobs, batch.advantages)
            for shard, rows in enumerate(
                zip(*(rows_by_shard(x, shards) for x in fields), strict=True)
            ):
                for number, question, tokens, length, logprobs, advantage in zip(
                    *rows, strict=True
                ):
                    if number < 0:
                        assert length == 0 and advantage == 0
                        continue
                    seen.append(number)
                    assert length == given_.responses.lengths[number]
                    assert (tokens[:length] == number + 1).all()
                    assert (logprobs[:length] == 0.5 * (number + 1)).all()
                    assert advantage == 10 + number
                    prompt = lengths_Q[shard, question]
                    assert prompt == given_.prompts.lengths[number // G]
                    assert (tokens_QxP[shard, question, :prompt] == number // G + 1).all()
    assert sorted(seen) == sorted(q * G + g for q in questions for g in range(G))


@quick
@given(cases())
def test_shapes_are_few_and_within_the_budget(case):
    given_, questions, budget, shards, G = case
    for prompts, batches in chunks(given_, questions, budget, shards):
        count, width = prompts.tokens.shape
        assert width in length_buckets(P) and (prompts.lengths <= width).all()
        per_shard = count // shards
        assert per_shard * shards == count and per_shard <= budget.questions
        assert per_shard * width <= budget.tokens or per_shard == 1
        for batch in batches:
            count, width = batch.tokens.shape
            assert width in length_buckets(R) and batch.lengths.max() <= width
            per_shard = count // shards
            assert per_shard * shards == count and per_shard <= budget.rows
            assert per_shard * width <= budget.tokens or per_shard == 1
            # One shape for each width: as many rows as the budget has room for.
            assert per_shard == min(max(budget.tokens // width, 1), budget.rows)


@quick
@given(cases())
def test_none_is_larger_than_the_largest(case):
    given_, questions, budget, shards, _ = case
    most_prompts, most = largest_chunk(budget, shards, P, R)
    for prompts, batches in chunks(given_, questions, budget, shards):
        assert prompts.tokens.size <= max(most_prompts.tokens.size, shards * budget.tokens)
        for batch in batches:
            assert batch.tokens.size <= max(most.tokens.size, shards * budget.tokens)


def test_rows_of_like_length_stand_together():
    """One long response among many short ones costs one row of its length, not all of them."""
    lengths = np.array([100, *[10] * 15])
    tokens = np.ones((16, R), np.int32)
    rollout = Rollout(tokens, lengths, np.float32(tokens), lengths < 0)
    one = Sequences(Prompts(np.ones((4, P)), np.full(4, P)), rollout, np.zeros(16))
    ((_, batches),) = chunks(one, range(4), Budget(tokens=200, questions=4, rows=16), 1)
    shapes = [batch.tokens.shape for batch in batches]
    assert shapes == [(2, 100), (12, 16), (12, 16)]


@pytest.mark.parametrize("shards", [2, 3])
def test_long_questions_are_dealt_evenly(shards):
    """So that no shard waits long for another."""
    given_ = sequences(12, 3, 0)
    ((_, batches),) = chunks(given_, range(12), Budget(10**6, 12, 36), shards)
    (batch,) = batches
    tokens = rows_by_shard(batch.lengths, shards).sum(axis=1)
    assert tokens.max() / tokens.mean() < 1.25
