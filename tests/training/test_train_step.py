"""The update against a loss written out token by token, and what must not change it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.training.advantages import make_advantage_fn
from riskpo_jax.training.optimizer import adamw
from riskpo_jax.training.state import Purpose, purpose_key
from riskpo_jax.training.train_step import dealt_questions

N, P, R, G = 16, 5, 8, 4
ADAM = adamw(
    optax.constant_schedule(0.01), b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0, max_grad_norm=1.0
)


@pytest.fixture(scope="module")
def tokens(experience):
    """What the model scores, flat over the real response tokens: whole rows, no masks.

    inputs: int[N, P + R], prompt and response from slot 0. row, slot: the logits that predict a
    token. target, behaviour: the token and the sampler's log-probability. length: its response's.
    """
    inputs = np.zeros((N, P + R), np.int32)
    columns = []
    rollout = jax.tree.map(np.asarray, experience.rollout)
    for n in range(N):
        prompt = experience.prompts.tokens[n // G, : experience.prompts.lengths[n // G]]
        length = rollout.lengths[n]
        response = rollout.tokens[n, :length]
        inputs[n, : len(prompt) + length] = [*prompt, *response]
        columns += [
            (n, len(prompt) + t - 1, response[t], rollout.logprobs[n, t], length)
            for t in range(length)
        ]
    row, slot, target, behaviour, length = map(np.array, zip(*columns, strict=True))
    return {
        "inputs": inputs, "row": row, "slot": slot, "target": target, "behaviour": behaviour,
        "length": length,
    }  # fmt: skip


@pytest.fixture(scope="module")
def oracle(tiny_model, tokens, whole_logits):
    """(config, advantages[N], params, reference) -> loss and token values, from the definitions."""

    @jax.jit
    def score(params, temperature):
        """Log-probabilities [tokens, V] under the model."""
        logits = whole_logits(tiny_model, params, tokens["inputs"])
        return jax.nn.log_softmax(logits[tokens["row"], tokens["slot"]] / temperature)

    def loss(params, config, advantages, reference=None, behaviour=tokens["behaviour"]):
        """behaviour: of the sampler; None for the policy's own."""
        a = config.algorithm
        M = len(tokens["row"])
        weights = {
            "token_mean": np.full(M, 1 / M, np.float32),
            "sequence_mean": 1 / (N * tokens["length"]),
            "constant_length": np.full(M, 1 / (N * R), np.float32),
        }[a.loss_aggregation]
        advantage = advantages[tokens["row"]]
        log_pi = score(params, config.rollout.temperature)
        chosen = log_pi[jnp.arange(M), tokens["target"]]
        behaviour = jax.lax.stop_gradient(chosen) if behaviour is None else behaviour
        log_ratio = chosen - behaviour
        if a.ratio == "sequence":
            mean_N = jnp.zeros(N).at[tokens["row"]].add(log_ratio / tokens["length"])
            log_ratio = mean_N[tokens["row"]]
        ratio = jnp.exp(log_ratio)
        bounded = jnp.clip(ratio, 1 - a.clip_low, 1 + a.clip_high)
        entropy = -(jnp.exp(log_pi) * log_pi).sum(axis=1)
        value = -jnp.minimum(ratio * advantage, bounded * advantage)
        kl = jnp.zeros(M)
        if a.kl_coef:
            log_reference = score(reference, config.rollout.temperature)
            gap = log_reference[jnp.arange(M), tokens["target"]] - chosen
            kl = jnp.exp(gap) - gap - 1
        value = value + a.kl_coef * kl - a.entropy_coef * entropy
        surrogate_is_flat = bounded * advantage < ratio * advantage
        means = {
            "policy/clip_fraction": surrogate_is_flat.mean(),
            "policy/entropy": entropy.mean(),
            "policy/reference_kl": kl.mean(),
        }
        return (weights * value).sum(), means

    return jax.value_and_grad(loss, has_aux=True)


def advantages_of(config, state, rewards):
    key = purpose_key(state.key, Purpose.BUNDLES, state.step)
    return make_advantage_fn(config.algorithm)(key, rewards, state.tracker)[0].reshape(-1)


def minus(a, b):
    return jax.tree.map(jnp.subtract, a, b)


REGULARISED = {"algorithm__kl_coef": 0.3, "algorithm__entropy_coef": 0.1}
OBJECTIVES = [
    {"model__unroll": 2},
    {"algorithm__preset": "grpo", "train__tokens_per_micro_batch": 32},
    {"algorithm__preset": "gspo", "train__tokens_per_micro_batch": 32},
    {
        "algorithm__preset": "dr_grpo",
        "algorithm__clip_high": 0.1,
        "train__tokens_per_micro_batch": 20,
        **REGULARISED,
    },
]


@pytest.mark.parametrize("changes", OBJECTIVES, ids=["paper", "grpo", "gspo", "dr_grpo-kl-entropy"])
@pytest.mark.parametrize("moved", [False, True], ids=["on-policy", "off-policy"])
def test_one_update_follows_the_gradient_of_the_definition(
    make_config, make_tiny_state, jitted_step, descent, oracle, perturb, assert_trees_close,
    tiny_params, experience, changes, moved,
):  # fmt: skip
    config = make_config(**changes)
    reference = tiny_params if config.algorithm.kl_coef else None
    params = perturb(tiny_params) if moved else tiny_params
    state = make_tiny_state(config, params, descent)
    step = jitted_step(config, descent)
    after, metrics = step(
        state, experience.prompts, experience.rollout, experience.rewards, reference
    )
    advantages = advantages_of(config, state, experience.rewards)
    (loss, means), gradient = oracle(params, config, advantages, reference)
    assert_trees_close(minus(params, after.params), gradient)
    assert float(metrics["grad/norm"]) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
    assert float(metrics["loss/total"]) == pytest.approx(float(loss), abs=1e-5)
    for name in means.keys() & metrics.keys():
        assert float(metrics[name]) == pytest.approx(float(means[name]), abs=1e-5)
    assert ("policy/reference_kl" in metrics) == bool(config.algorithm.kl_coef)
    if moved:
        assert float(metrics["policy/clip_fraction"]) > 0.05
        assert float(metrics["policy/mismatch_kl"]) > 1e-4
    else:
        assert float(metrics["policy/clip_fraction"]) == 0
        assert 0 <= float(metrics["policy/mismatch_kl"]) < 1e-9
        assert float(metrics.get("policy/reference_kl", 0)) < 1e-9
    assert int(after.step) == 1 and int(after.position) == 4 and int(after.tracker.step) == 1
    np.testing.assert_array_equal(after.key, state.key)


def test_later_updates_of_a_batch_keep_its_behaviour_policy(
    make_config, make_tiny_state, jitted_step, oracle, assert_trees_close, tiny_params, experience
):
    """Two epochs of descent are two gradients of the same surrogate, the second of them clipped."""
    config, rate = make_config(train__epochs=2), 0.05
    optimizer = optax.sgd(rate)
    state = make_tiny_state(config, tiny_params, optimizer)
    after, metrics = jitted_step(config, optimizer)(
        state, experience.prompts, experience.rollout, experience.rewards, None
    )
    advantages = advantages_of(config, state, experience.rewards)
    params, clipped = tiny_params, []
    for _ in range(2):
        (_, means), gradient = oracle(params, config, advantages)
        params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
        clipped.append(float(means["policy/clip_fraction"]))
    assert clipped[0] == 0 < clipped[1]
    assert_trees_close(minus(tiny_params, after.params), minus(tiny_params, params))
    assert float(metrics["policy/clip_fraction"]) == pytest.approx(np.mean(clipped), abs=1e-6)
    assert float(metrics["policy/mismatch_kl"]) < 1e-9  # of the first update only


def test_micro_batches_change_nothing(
    make_config, make_tiny_state, jitted_step, descent, perturb, assert_trees_close,
    tiny_params, experience,
):  # fmt: skip
    params = perturb(tiny_params)

    def run(**changes):
        config = make_config(**changes)
        state = make_tiny_state(config, params, descent)
        after, metrics = jitted_step(config, descent)(
            state, experience.prompts, experience.rollout, experience.rewards, None
        )
        return minus(params, after.params), metrics

    whole, metrics = run()
    parts, parts_metrics = run(train__tokens_per_micro_batch=12)  # one response, two prompts
    assert_trees_close(parts, whole, 2e-6)
    assert metrics.keys() == parts_metrics.keys()
    for name, value in metrics.items():
        assert parts_metrics[name] == pytest.approx(value, abs=1e-5)


def test_the_order_of_questions_and_responses_does_not_matter(
    make_config, make_tiny_state, jitted_step, descent, perturb, assert_trees_close,
    tiny_params, experience,
):  # fmt: skip
    """For a preset without bundles; bundles are drawn by position."""
    config, params = make_config(**OBJECTIVES[1]), perturb(tiny_params)
    rng = np.random.default_rng(5)
    questions = rng.permutation(4)
    responses = np.stack([q * G + rng.permutation(G) for q in questions])

    def gradient(prompts, rollout, rewards):
        state = make_tiny_state(config, params, descent)
        after, _ = jitted_step(config, descent)(state, prompts, rollout, rewards, None)
        return minus(params, after.params)

    shuffled = gradient(
        jax.tree.map(lambda x: x[questions], experience.prompts),
        jax.tree.map(lambda x: x[responses.reshape(-1)], experience.rollout),
        experience.rewards.reshape(-1)[responses],
    )
    plain = gradient(experience.prompts, experience.rollout, experience.rewards)
    assert_trees_close(shuffled, plain, 2e-6)


def test_each_epoch_deals_every_question_once(make_config, make_tiny_state, descent, tiny_params):
    config = make_config(train__minibatches=2, train__epochs=3)
    state = make_tiny_state(config, tiny_params, descent)
    dealt = np.stack(list(dealt_questions(config, state)))
    assert dealt.shape == (6, 2)
    epochs = dealt.reshape(3, 4)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [np.arange(4)] * 3)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    np.testing.assert_array_equal(dealt, np.stack(list(dealt_questions(config, state))))
    later = np.stack(list(dealt_questions(config, state.replace(step=state.step + 1))))
    assert (later != dealt).any()
    (one,) = dealt_questions(make_config(), state)
    np.testing.assert_array_equal(one, np.arange(4))


def test_minibatches_are_updates_on_whole_questions(
    make_config, make_tiny_state, jitted_step, oracle, assert_trees_close, tokens, tiny_params,
    experience,
):  # fmt: skip
    """Two mini-batches of descent are the gradients of the loss over either's questions."""
    rate = 0.05
    config, optimizer = make_config(train__minibatches=2), optax.sgd(rate)
    state = make_tiny_state(config, tiny_params, optimizer)
    after, _ = jitted_step(config, optimizer)(
        state, experience.prompts, experience.rollout, experience.rewards, None
    )
    advantages = advantages_of(config, state, experience.rewards)
    params = tiny_params
    for questions in dealt_questions(config, state):
        inside = np.isin(np.arange(N) // G, questions)
        # The oracle's mean is over all tokens, those of other questions with an advantage of 0.
        step = rate / inside[tokens["row"]].mean()
        _, gradient = oracle(params, config, jnp.where(inside, advantages, 0))
        params = optax.apply_updates(params, optax.tree.scale(-step, gradient))
    assert_trees_close(minus(tiny_params, after.params), minus(tiny_params, params))


def test_old_logprobs_of_the_trainer_replace_the_samplers(
    make_config, make_tiny_state, jitted_step, descent, oracle, perturb, assert_trees_close,
    tiny_params, tokens, experience,
):  # fmt: skip
    """A policy that the sampler did not have: its own ratio is 1, and the mismatch is told."""
    config = make_config(train__old_logprobs="trainer", train__tokens_per_micro_batch=20)
    params = perturb(tiny_params)
    state = make_tiny_state(config, params, descent)
    batch = experience.prompts, experience.rollout, experience.rewards
    after, metrics = jitted_step(config, descent)(state, *batch, None)
    advantages = advantages_of(config, state, experience.rewards)
    _, gradient = oracle(params, config, advantages, behaviour=None)
    assert_trees_close(minus(params, after.params), gradient)
    assert metrics["policy/clip_fraction"] == 0
    _, of_sampler = jitted_step(make_config(), descent)(state, *batch, None)
    expected = of_sampler["policy/mismatch_kl"]
    assert metrics["policy/mismatch_kl"] == pytest.approx(expected, rel=1e-4) and expected > 1e-4


class TestSixUpdates:
    """Three epochs of two mini-batches under AdamW."""

    @pytest.fixture
    def config(self, make_config):
        return make_config(train__epochs=3, train__minibatches=2)

    @pytest.fixture
    def state(self, config, make_tiny_state, tiny_params):
        """As in the middle of a run: the moments are not zero."""
        state = make_tiny_state(config, tiny_params, ADAM)
        moments = jax.tree.map(lambda x: x + x.dtype.type(1), state.opt_state)
        return state.replace(opt_state=moments)

    @pytest.fixture
    def run(self, jitted_step, config, state, experience):
        def run(state=state, **changes):
            given = {**vars(experience), **changes}
            return jitted_step(config, ADAM)(
                state, given["prompts"], given["rollout"], given["rewards"], None
            )

        return run

    def updates_made(self, before, after):
        first, last = (
            [count for _, count in optax.tree_utils.tree_get_all_with_path(s.opt_state, "count")]
            for s in (before, after)
        )
        assert len({int(b - a) for a, b in zip(first, last, strict=True)}) == 1
        return int(last[0] - first[0])

    def test_are_six(self, state, run, tiny_params):
        after, metrics = run()
        assert self.updates_made(state, after) == 6
        assert float(metrics["grad/skipped"]) == 0
        assert int(after.step) == 1 and int(after.position) == 4
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, tiny_params)
        assert all(jax.tree.leaves(moved))

    def assert_untouched(self, state, after):
        for name in ("params", "opt_state", "key"):
            before_and_after = (jax.tree.leaves(getattr(s, name)) for s in (state, after))
            for a, b in zip(*before_and_after, strict=True):
                assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        assert int(after.step) == 1 and int(after.position) == 4 and int(after.tracker.step) == 1

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_are_skipped_when_the_advantages_are_not_finite(self, state, run, experience, bad):
        rewards = experience.rewards.copy()
        rewards[:] = bad
        after, metrics = run(rewards=rewards)
        self.assert_untouched(state, after)
        assert float(metrics["grad/skipped"]) == 6
        assert not np.isfinite(float(metrics["grad/norm"]))

    def test_are_skipped_when_a_parameter_is_not_finite(self, state, run):
        params = dict(state.params, embedding=state.params["embedding"].at[0, 0].set(jnp.inf))
        state = state.replace(params=params)
        after, metrics = run(state=state)
        self.assert_untouched(state, after)
        assert float(metrics["grad/skipped"]) == 6

    def test_are_skipped_one_by_one(self, state, run, experience):
        """One bad sequence spoils the one update of each epoch that it is in."""
        logprobs = experience.rollout.logprobs.copy()
        logprobs[3, 0] = np.nan
        after, metrics = run(rollout=experience.rollout.replace(logprobs=logprobs))
        assert float(metrics["grad/skipped"]) == 3
        assert self.updates_made(state, after) == 3
        for leaf in jax.tree.leaves((after.params, after.opt_state)):
            assert np.isfinite(leaf).all()
