"""The worker pool: nothing that a reward does reaches the parent, or another response."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards import pool as pool_module
from riskpo_jax.rewards.outcome import Kind, Outcome
from riskpo_jax.rewards.pool import PoolGrader

HERE = Path(__file__).parent
PATIENCE = 60.0  # seconds for any one answer of a pool, on a loaded machine


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The user's module is found by sys.path alone, as in a run that is started beside it."""
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))


def make(function="reward", *, module="misbehaving", options=None, **settings):
    settings = {"workers": 2, "timeout_s": 1.0, "memory_mb": 256} | settings
    return PoolGrader(f"{module}:{function}", options or {}, **settings)


def problems(count: int) -> list[Problem]:
    return [Problem(str(i), "?", str(i), "d") for i in range(count)]


def grade(grader, responses) -> list[Outcome]:
    return grader.submit(responses, problems(len(responses))).result(PATIENCE)


@pytest.fixture(scope="module")
def pool():
    grader = make()
    grader.start()
    yield grader
    grader.close()


def test_outcomes_come_in_order_and_batches_overlap(pool):
    futures = [
        pool.submit([str(i) if i % 3 else "no" for i in range(n)], problems(n))
        for n in (200, 1, 0, 50)
    ]
    for future, n in zip(futures, (200, 1, 0, 50), strict=True):
        outcomes = future.result(PATIENCE)
        assert [o.correct for o in outcomes] == [bool(i % 3) for i in range(n)]


@pytest.mark.parametrize(
    ("bad", "kind", "worker_lost"),
    [
        ("hang_in_c", Kind.TIMEOUT, True),
        ("count_high", Kind.TIMEOUT, False),
        ("hang_in_python", Kind.TIMEOUT, False),
        ("sleep", Kind.TIMEOUT, False),
        ("ignore_alarms", Kind.TIMEOUT, True),
        ("swallow_alarms", Kind.TIMEOUT, True),
        ("swell", Kind.ERROR, False),
        ("exit_at_once", Kind.ERROR, True),
        ("exit_politely", Kind.ERROR, False),
        ("segfault", Kind.ERROR, True),
        ("close_everything", Kind.ERROR, True),
        ("write_a_file", Kind.ERROR, False),
        ("fork_and_hang", Kind.TIMEOUT, None),
        ("recurse", Kind.ERROR, None),
        ("print_megabytes", Kind.WRONG, False),
    ],
)
def test_one_bad_response_costs_itself_only(pool, bad, kind, worker_lost):
    lost = pool.workers_lost
    responses = [str(i) for i in range(20)]
    responses[7] = bad
    started = time.monotonic()
    outcomes = grade(pool, responses)
    assert time.monotonic() - started < 20  # one second of its own; the rest is the machine's
    assert outcomes[7].kind is kind and outcomes[7].score == 0.0
    assert all(o.correct for i, o in enumerate(outcomes) if i != 7)
    if worker_lost is not None:
        assert pool.workers_lost - lost == worker_lost


def test_a_batch_of_bombs_ends(pool):
    """Not of which kind each is: on a busy machine a worker may not even get to its end in time."""
    outcomes = grade(pool, ["hang_in_c", "exit_at_once"] * 3 + ["6"])
    assert all(outcome.kind in (Kind.TIMEOUT, Kind.ERROR) for outcome in outcomes[:6])
    assert outcomes[6].correct


def test_a_process_that_cannot_be_started_now_is_started_later(monkeypatch):
    started, made = [], pool_module.WorkerProcess

    def refuse_the_second(*args):
        started.append(args)
        if len(started) == 2:
            raise OSError("no memory")
        return made(*args)

    monkeypatch.setattr(pool_module, "WorkerProcess", refuse_the_second)
    grader = make(workers=1)
    try:
        assert grade(grader, ["0", "exit_at_once", "2"])[2].correct
        assert len(started) > 2
    finally:
        grader.close()


def test_a_huge_response_arrives(pool):
    text = "x" * (8 * 2**20)
    (outcome,) = grade(pool, [text])
    assert outcome.kind is Kind.WRONG and text.startswith(outcome.answer)


def test_text_that_is_no_unicode_arrives(pool):
    (outcome,) = grade(pool, ["\ud800\n\0"])
    assert outcome.answer == "\ud800\n\0"


def test_nothing_of_the_parent_is_in_a_worker(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    grader = make("environment")
    try:
        assert grade(grader, ["SECRET_TOKEN"])[0].answer == ""
    finally:
        grader.close()


@pytest.mark.parametrize("path", ["misbehaving:modules", "riskpo_jax.rewards.math:math_reward"])
def test_a_worker_does_not_import_jax(path):
    code = (
        "import sys, runpy; from riskpo_jax.rewards import worker, functions; "
        f"functions.get_reward({path!r}); print([m for m in ('jax', 'flax', 'torch') if m in sys.modules])"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stderr


def test_options_reach_the_function():
    grader = make(options={"credit": 0.25})
    try:
        assert grade(grader, ["0", "x"])[0].score == 0.25
    finally:
        grader.close()


def test_a_worker_warms_up_before_it_grades():
    grader = make("warm")
    try:
        assert grade(grader, ["a"])[0].correct
    finally:
        grader.close()


def test_a_score_that_is_no_number_is_an_error():
    grader = make("nan")
    try:
        assert grade(grader, ["a"])[0] == Outcome(Kind.ERROR, 0.0, "a")
    finally:
        grader.close()


def test_a_reward_must_return_an_outcome():
    grader = make("bare_number")
    try:
        with pytest.raises(UserError, match="returned 1.0 for problem [01].*Outcome"):
            grade(grader, ["a", "b"])
    finally:
        grader.close()


@pytest.mark.parametrize(
    ("module", "function", "message"),
    [
        ("no_such_module_of_mine", "reward", "cannot import no_such_module_of_mine"),
        ("misbehaving", "no_such_function", "has no function 'no_such_function'"),
    ],
)
def test_a_function_that_cannot_be_had_is_said_once(module, function, message):
    grader = make(function, module=module)
    try:
        with pytest.raises(UserError, match=message):
            grader.start()
        with pytest.raises(UserError, match=message):
            grade(grader, ["a"])
    finally:
        grader.close()


def test_a_module_that_kills_its_worker_at_import_is_no_endless_loop(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    grader = make(module="deadly")
    try:
        with pytest.raises(UserError, match="die while they start.*9"):
            grade(grader, ["a"])
    finally:
        grader.close()


def test_metadata_that_does_not_pickle_is_named(pool):
    problem = Problem("p7", "?", "1", "d", metadata={"f": lambda: 0})
    with pytest.raises(UserError, match="problem p7 cannot be sent"):
        pool.submit(["1"], [problem])


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="workers >= 1"):
        make(workers=0)


def test_close_leaves_no_process_and_can_be_repeated():
    grader = make("process")
    pid = int(grade(grader, ["a"])[0].answer)
    hanging = make()
    future = hanging.submit(["hang_in_c"], problems(1))
    for _ in range(2):
        grader.close()
        hanging.close()
    with pytest.raises(CancelledError):
        future.result(0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(UserError, match="closed"):
        grader.submit(["a"], problems(1))


def test_workers_die_with_a_parent_that_is_killed():
    """Even the one that is busy in C and reads nothing."""
    code = (
        "import sys, os, signal\n"
        "from riskpo_jax.data.problem import Problem\n"
        "from riskpo_jax.rewards.pool import PoolGrader\n"
        "g = PoolGrader('misbehaving:process', {}, workers=1, timeout_s=100, memory_mb=256)\n"
        "p = Problem('p', '?', 'x', 'd')\n"
        "print(g.submit(['a'], [p]).result()[0].answer, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    pid = int(out.stdout)
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"worker {pid} outlived its parent")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_cancelled_batch_keeps_nobody_waiting():
    """What it left in the queue goes, though nothing else would wake the pool."""
    pool = make(workers=1)
    try:
        pool.start()
        first = pool.submit(["sleep"], problems(1))
        cancelled = pool.submit(["1"] * 500, problems(500))
        assert cancelled.cancel()
        last = pool.submit(["0"], problems(1))
        assert [future.result(PATIENCE)[0].kind for future in (first, last)] == [
            Kind.TIMEOUT,
            Kind.CORRECT,
        ]
    finally:
        pool.close()


def test_closing_again_writes_nowhere():
    """The numbers of its pipe may be another file's by then."""
    pool = make(workers=1)
    pool.start()
    pool.close()
    sockets = [end for _ in range(8) for end in socket.socketpair()]  # take the free numbers
    pool.close()
    for end in sockets:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(1)
    for end in sockets:
        end.close()
