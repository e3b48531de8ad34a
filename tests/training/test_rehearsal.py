"""What does not fit shows before the first step, in one line with the flag to lower."""

from types import SimpleNamespace

import jax
import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import rehearsal

EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 123456789012 bytes."


def exhausted(*_):
    raise jax.errors.JaxRuntimeError(EXHAUSTED)


@pytest.fixture
def parts(make_config, make_tiny_state, tiny_params, descent):
    """(run, update, state) whose programs do nothing but write down what they were called with."""
    config, calls = make_config(), []

    def rehearse(*arguments):
        calls.append(arguments)

    run = SimpleNamespace(
        config=config,
        sampler=SimpleNamespace(slots=12, rehearse=rehearse),
        console=SimpleNamespace(print=lambda *_, **__: None),
    )
    update = SimpleNamespace(budget=SimpleNamespace(tokens=2048), rehearse=rehearse)
    return run, update, make_tiny_state(config, tiny_params, descent), calls


def test_the_largest_prompts_and_responses_are_tried(parts):
    run, update, state, calls = parts
    rehearsal.rehearse(run, update, {}, state, None)
    (_, prompts, group_size, _), (*_, prompt_width, longest) = calls
    assert prompts.tokens.shape == (4, 5) and (prompts.lengths == 5).all() and group_size == 4
    assert (prompt_width, longest) == (5, 8)


def test_a_rollout_that_does_not_fit_names_what_to_lower(parts):
    run, update, state, _ = parts
    run.sampler.rehearse = exhausted
    with pytest.raises(
        UserError, match=r"decoding 12 responses of 5 \+ 8 tokens.*114.98 GiB"
    ) as caught:
        rehearsal.rehearse(run, update, {}, state, None)
    assert "--rollout.slots" in str(caught.value) and "\n" not in str(caught.value)


def test_a_gradient_that_does_not_fit_names_what_to_lower(parts):
    run, update, state, _ = parts
    update.rehearse = exhausted
    with pytest.raises(UserError, match="the gradient of 2048 response tokens") as caught:
        rehearsal.rehearse(run, update, {}, state, None)
    assert "--train.tokens_per_micro_batch" in str(caught.value)


@pytest.mark.parametrize(("wanted", "due"), [("auto", False), ("yes", True), ("no", False)])
def test_a_cpu_rehearses_only_when_asked_to(make_config, wanted, due):
    config = make_config(compile__worst_case_first=wanted)
    assert rehearsal.is_due(config, make_mesh()) is due
