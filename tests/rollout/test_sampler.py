"""The sampler on a mesh: placement, one compile a shape, and the text of what was drawn."""

import jax
import numpy as np

from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.rollout.sampler import Sampler, decode_responses, join_turns, sample_in_turns
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import batch_sharding, make_mesh
from riskpo_jax.types import Prompts


def test_compiles_once_a_shape_and_setting(tiny_model, tiny_params):
    mesh = make_mesh()
    sampler = Sampler(tiny_model, mesh, max_response_length=3, eos_ids=(3,))
    prompts = sampler.place(Prompts(np.ones((2, 4), np.int32), np.array([4, 2], np.int32)))
    assert prompts.tokens.sharding == batch_sharding(mesh)
    first, second = (
        sampler(tiny_params, jax.random.key(seed), prompts, 2, SamplingParams()) for seed in (0, 1)
    )
    assert sampler._generate._cache_size() == 1
    assert first.tokens.shape == (4, 3)
    assert (first.tokens != second.tokens).any()


def test_in_turns_the_rollout_is_that_of_all_at_once(tiny_model, tiny_params):
    sampler = Sampler(tiny_model, make_mesh(), max_response_length=5, eos_ids=(3,))
    tokens = np.random.default_rng(0).integers(0, 23, (6, 4)).astype(np.int32)
    prompts = sampler.place(Prompts(tokens, np.array([4, 2, 1, 3, 4, 4], np.int32)))
    key = jax.random.key(0)

    def sample(at_once, temperature):
        sampling = SamplingParams(temperature)
        turns = list(sample_in_turns(sampler, tiny_params, key, prompts, 2, sampling, at_once))
        assert [rows.start for rows, _ in turns] == list(range(0, 6, at_once or 6))
        return join_turns(sampler, [rollout for _, rollout in turns])

    whole, greedy = sample(0, 0.0), sample(2, 0.0)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(greedy), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
        assert one.sharding == other.sharding
    drawn = sample(3, 1.0)
    assert (drawn.tokens[:6] != drawn.tokens[6:]).any()  # each turn has a key of its own
    last = Prompts(prompts.tokens[3:], prompts.lengths[3:])
    alone = sampler(tiny_params, jax.random.fold_in(key, 3), last, 2, SamplingParams())
    np.testing.assert_array_equal(drawn.tokens[6:], alone.tokens)


def test_the_next_turn_is_under_way_while_the_caller_has_one():
    """So that verdicts are found while the devices sample; but never are two turns unfinished."""
    events = []

    class Recorder:
        place = staticmethod(lambda rows: rows)

        def __call__(self, params, key, prompts, group_size, sampling):
            events.append("sample")
            return prompts

    prompts = Prompts(np.zeros((3, 2), np.int32), np.ones(3, np.int32))
    turns = sample_in_turns(Recorder(), None, jax.random.key(0), prompts, 2, SamplingParams(), 1)
    for rows, _ in turns:
        events.append(rows.start)
    assert events == ["sample", "sample", 0, "sample", 1, 2]


def test_text_ends_at_the_length_and_leaves_special_tokens_out():
    tokenizer = byte_tokenizer()
    ids = tokenizer("2+3 = 5?")["input_ids"]
    end = tokenizer.eos_token_id
    rows = np.array([[*ids, end, 0], [*ids, *ids[:2]], [end, *ids, 0]])
    lengths = np.array([len(ids) + 1, 3, 1])
    assert decode_responses(tokenizer, rows, lengths) == ["2+3 = 5?", "2+3", ""]
