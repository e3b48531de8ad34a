"""What comes back is what was saved, which steps stay, and refusals in one line."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.algorithms import quantiles
from riskpo_jax.errors import UserError
from riskpo_jax.sharding import make_mesh, replicated
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.state import init_state

ADAM = optax.adam(0.1)


def state_of(params, seed=0):
    """A state in the middle of a run: every leaf has a value of its own."""
    state = init_state(params, ADAM, quantiles.init(3), seed)
    rng = np.random.default_rng(seed)

    def fill(x):
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.asarray(rng.standard_normal(x.shape), x.dtype)
        return jnp.asarray(rng.integers(0, 1000, x.shape), x.dtype)

    return jax.device_put(jax.tree.map(fill, state), replicated(make_mesh()))


@pytest.fixture
def small():
    return state_of({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3, jnp.bfloat16)})


@pytest.fixture
def open_checkpoints(tmp_path):
    """Opens the same directory again and again; the last one is closed at the end."""
    opened = []

    def open_checkpoints(**policy):
        if opened:
            opened.pop().close()
        opened.append(Checkpoints(tmp_path / "checkpoints", **policy))
        return opened[-1]

    yield open_checkpoints
    opened.pop().close()


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.sharding == y.sharding
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_every_bit_comes_back_where_it_was(open_checkpoints, tiny_params):
    state = state_of(tiny_params)
    open_checkpoints().save(state, 7, 0.5)
    checkpoints = open_checkpoints()  # as another process would
    assert checkpoints.latest_step() == 7
    assert_identical(checkpoints.restore(like=state_of(tiny_params, seed=1)), state)


def test_low_precision_and_any_step(open_checkpoints, small):
    other = state_of(small.params, seed=1)
    checkpoints = open_checkpoints(keep_last=2)
    checkpoints.save(small, 1, None)
    checkpoints.save(other, 2, None)
    checkpoints = open_checkpoints(keep_last=2)
    assert_identical(checkpoints.restore(like=other, step=1), small)
    assert_identical(checkpoints.restore(like=other), other)


SCORES = {1: 0.1, 2: 0.9, 3: None, 4: 0.3, 5: 0.2, 6: None}


@pytest.mark.parametrize(
    ("last", "best", "kept"),
    [(1, 0, {6}), (2, 1, {2, 5, 6}), (1, 2, {2, 4, 6}), (3, 2, {2, 4, 5, 6})],
)
def test_the_last_and_the_best_stay(open_checkpoints, tmp_path, small, last, best, kept):
    for step, score in SCORES.items():
        if step in (1, 4):  # a resumed run remembers the scores
            checkpoints = open_checkpoints(keep_last=last, keep_best=best)
        checkpoints.save(small, step, score)
    open_checkpoints(keep_last=last, keep_best=best)
    assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == kept


def test_a_state_may_be_donated_right_after_it_was_saved(open_checkpoints):
    """On CPU the writer looks at the very memory that a donated update may overwrite."""
    size = 300_000
    update = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = update(init_state({"w": jnp.zeros(size)}, ADAM, quantiles.init(2), 0))
    checkpoints = open_checkpoints(keep_last=3)
    saved = []
    for step in range(3):
        saved.append(jax.tree.map(lambda x: np.array(x, copy=True).max(), state))
        checkpoints.save(state, step, None)
        for _ in range(20):
            state = update(state)
    checkpoints = open_checkpoints(keep_last=3)
    for step in range(3):
        for x, value in zip(
            jax.tree.leaves(checkpoints.restore(like=state, step=step)),
            jax.tree.leaves(saved[step]),
            strict=True,
        ):
            assert x.max() == value and (x.size < size or x.min() == value)


def test_what_a_kill_left_unfinished_is_no_checkpoint(open_checkpoints, tmp_path, small):
    open_checkpoints().save(small, 3, None)
    open_checkpoints()
    directory = tmp_path / "checkpoints"
    (directory / "9.orbax-checkpoint-tmp-1").mkdir()
    checkpoints = open_checkpoints()
    assert checkpoints.latest_step() == 3
    assert_identical(checkpoints.restore(like=small), small)


def test_a_step_that_is_not_there(open_checkpoints, small):
    checkpoints = open_checkpoints()
    assert checkpoints.latest_step() is None
    checkpoints.save(small, 1, None)
    with pytest.raises(UserError, match="checkpoints holds no checkpoint of step 2"):
        checkpoints.restore(like=small, step=2)


@pytest.mark.parametrize(
    "params",
    [
        {"w": jnp.zeros((2, 4)), "b": jnp.zeros(3, jnp.bfloat16)},
        {"w": jnp.zeros((3, 2)), "b": jnp.zeros(3, jnp.bfloat16)},
        {"w": jnp.zeros((1, 3)), "b": jnp.zeros(3, jnp.bfloat16)},
        {"w": jnp.zeros((2, 3))},
        {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3, jnp.bfloat16), "head": jnp.zeros(2)},
    ],
    ids=["wider", "transposed", "narrower", "one-less", "one-more"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_state_of_another_shape(open_checkpoints, small, params):
    open_checkpoints().save(small, 1, None)
    with pytest.raises(UserError, match=r"/1 does not fit this model and optimizer: ."):
        open_checkpoints().restore(like=state_of(params))
    gc.collect()  # Orbax leaves its other reads unfinished, which warns when they are collected


def test_parameters_alone_are_those_of_the_whole_state(open_checkpoints, tiny_params):
    """Without knowing the optimizer, in the places asked for."""
    state = state_of(tiny_params)
    open_checkpoints(keep_last=2).save(state, 7, None)
    checkpoints = open_checkpoints(keep_last=2)
    assert_identical(checkpoints.restore_params(state_of(tiny_params, seed=1).params), state.params)
    assert_identical(
        checkpoints.restore(like=state).params, checkpoints.restore_params(state.params)
    )
    checkpoints.save(state_of(tiny_params, seed=2), 8, None)
    checkpoints = open_checkpoints(keep_last=2)
    assert_identical(checkpoints.restore_params(state.params, step=7), state.params)


def test_states_and_parameters_come_back_into_shapes_and_other_types(open_checkpoints, small):
    """No array is there before; parameters are rounded to nearest on their way."""
    open_checkpoints().save(small, 1, None)
    checkpoints = open_checkpoints()
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), small
    )
    assert_identical(checkpoints.restore(like=shapes), small)
    for dtype in (jnp.bfloat16, jnp.float32):
        like = jax.tree.map(lambda x, to=dtype: x.update(dtype=to), shapes.params)
        rounded = jax.tree.map(lambda x, to=dtype: x.astype(to), small.params)
        assert_identical(checkpoints.restore_params(like), rounded)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"w": jnp.zeros((2, 4)), "b": jnp.zeros(3)}, r"shape: \(2, 4\)"),
        ({"w": jnp.zeros((2, 3))}, "b is only in one"),
        ({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3), "head": jnp.zeros(2)}, "head is only in one"),
    ],
    ids=["wider", "one-less", "one-more"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_parameters_of_another_model(open_checkpoints, small, params, named):
    checkpoints = open_checkpoints()
    checkpoints.save(small, 1, None)
    checkpoints = open_checkpoints()
    with pytest.raises(UserError, match=f"/1 does not fit this model: .*{named}"):
        checkpoints.restore_params(params)
    with pytest.raises(UserError, match="holds no checkpoint of step 2"):
        checkpoints.restore_params(small.params, step=2)
    gc.collect()  # as above
