"""Who sits where, over whole rollouts whose responses end at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.seating import Seating

quick = settings(deadline=None, max_examples=150)
sizes = st.tuples(  # questions, responses to each, shards, slots of a shard
    st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9)
)


def rollout(sizes, seed, after_each):
    """A whole rollout; calls after_each(seating, now) whenever somebody has sat down or moved."""
    Q, G, shards, slots = sizes
    seating, rng, now = Seating(Q, G, shards, shards * slots), np.random.default_rng(seed), 0
    seating.admit(now)
    completed = []
    while (seating.responses >= 0).any():
        after_each(seating, now)
        now += int(rng.integers(1, 5))
        sitting = seating.responses[seating.responses >= 0]
        ended = rng.permutation(sitting)[: rng.integers(1, sitting.size + 1)]
        completed += seating.release(ended)
        if seating.admit(now) is None:
            seating.compact(Programs.slot_counts(seating.slots_per_shard))
    return seating, completed


def by_shard(seating, array):
    return array.reshape(len(seating.shards), -1)


@quick
@given(sizes, st.integers(0, 99))
def test_every_response_sits_once_and_every_question_is_completed_once(sizes, seed):
    Q, G, *_ = sizes
    places = {}  # of each response: the shard and begin it had whenever it was seen

    def look(seating, now):
        for shard, responses in enumerate(by_shard(seating, seating.responses)):
            for n in responses[responses >= 0]:
                places.setdefault(n, set()).add((shard, seating.begin_N[n]))
        sitting = seating.responses[seating.responses >= 0]
        assert np.unique(sitting).size == sitting.size

    seating, completed = rollout(sizes, seed, look)
    assert sorted(places) == list(range(Q * G))
    assert all(len(seen) == 1 for seen in places.values())  # it neither moves nor begins anew
    assert sorted(completed) == list(range(Q))
    assert not seating.unfinished_Q.any() and not any(s.waiting for s in seating.shards)


@quick
@given(sizes, st.integers(0, 99))
def test_tables_lead_from_a_response_to_its_prompt_and_back(sizes, seed):
    G = sizes[1]

    def look(seating, now):
        prompt, member, members = (by_shard(seating, x) for x in seating.tables())
        questions = by_shard(seating, seating.questions)
        for shard, responses in enumerate(by_shard(seating, seating.responses)):
            for slot, n in enumerate(responses):
                if n >= 0:
                    place = prompt[shard, slot]
                    assert questions[shard, place] == n // G
                    assert members[shard, place * G + member[shard, slot]] == slot
            assert members[shard].size == questions[shard].size * G
            assert (members[shard] < responses.size).all() and (prompt[shard] >= 0).all()

    rollout(sizes, seed, look)


@quick
@given(sizes, st.integers(0, 99))
def test_no_slot_is_left_free_while_a_response_could_take_it(sizes, seed):
    def look(seating, now):
        for shard in seating.shards:
            if (shard.response < 0).any() and shard.waiting:
                assert (shard.question >= 0).all() and shard.waiting[0] not in shard.question
        sitting = seating.responses[seating.responses >= 0]
        assert seating.first_place() == seating.begin_N[sitting].min() <= now

    seating, _ = rollout(sizes, seed, look)
    assert seating.first_place() > 10**9  # nobody looks at anything


@quick
@given(sizes, st.integers(0, 99), st.data())
def test_compaction_keeps_everyone(sizes, seed, data):
    Q, G, shards, slots = sizes
    seating = Seating(Q, G, shards, shards * slots)
    while seating.admit(0) is not None or any(shard.waiting for shard in seating.shards):
        before = seating.responses
        assert seating.compact(Programs.slot_counts(slots)) is None or not any(
            shard.waiting for shard in seating.shards
        )
        if not any(shard.waiting for shard in seating.shards):
            break
        np.testing.assert_array_equal(seating.responses, before)
        seating.release(before[before >= 0][:1])
    sitting = seating.responses[seating.responses >= 0]
    seating.release(data.draw(st.permutations(sitting.tolist()).map(np.array))[: len(sitting) // 2])
    responses, questions = seating.responses, seating.questions
    moved = seating.compact(Programs.slot_counts(seating.slots_per_shard))
    kept = responses[responses >= 0]
    np.testing.assert_array_equal(np.sort(seating.responses[seating.responses >= 0]), np.sort(kept))
    held = seating.questions[seating.questions >= 0]
    np.testing.assert_array_equal(np.sort(held), np.unique(kept // G))
    if moved is None:
        np.testing.assert_array_equal(seating.responses, responses)
    else:
        for rows, old, new in zip(
            moved, (responses, questions), (seating.responses, seating.questions), strict=True
        ):
            taken = np.take_along_axis(old.reshape(shards, -1), rows.reshape(shards, -1), axis=1)
            np.testing.assert_array_equal(taken.reshape(-1), new)


def test_the_smallest_size_that_holds_the_fullest_shard_is_taken():
    """Two shards of eight slots, of which three and five are left."""
    seating = Seating(4, 4, 2, 16)
    seating.admit(0)
    first, second = by_shard(seating, seating.responses)
    seating.release(np.concatenate([first[:5], second[:3]]))
    assert seating.compact((4, 8)) is None
    slots, prompt_slots = seating.compact((4, 5, 8))
    assert len(slots) == 10 and seating.slots_per_shard == 5
    assert len(prompt_slots) == 2 * seating.prompt_slots


@pytest.mark.parametrize("slots", [1, 2, 7, 64, 250])
def test_slot_counts_are_few_and_end_with_all(slots):
    counts = Programs.slot_counts(slots)
    assert counts[-1] == slots and counts[0] <= 4 and list(counts) == sorted(set(counts))
    assert all(b <= 2 * a for a, b in zip(counts, counts[1:], strict=False))
