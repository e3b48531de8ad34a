"""Two real processes, connected: what they exchange, the arrays they share, and how a failure ends both."""

import os
import socket
import subprocess
import sys
import textwrap

SCRIPT = """
    import sys, threading, time
    import jax, numpy as np
    from riskpo_jax import processes
    from riskpo_jax.errors import UserError
    from riskpo_jax.sharding import batch_sharding, fetch, make_mesh, place, put, replicated

    i = int(sys.argv[1])
    assert processes.count() == 1 and processes.is_main() and processes.exchange(5) == [5]
    with processes.together(f"localhost:{sys.argv[2]}", 2, i):
        assert (processes.count(), processes.index(), processes.is_main()) == (2, i, i == 0)
"""


def both(body: str) -> list[subprocess.CompletedProcess]:
    """Runs `body` in two processes of two devices each, connected; `i` is the number of a process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = textwrap.dedent(SCRIPT) + textwrap.indent(textwrap.dedent(body), "    ")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(i), str(port)],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        shown = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *texts)
        for p, texts in zip(running, shown, strict=True)
    ]


def test_what_two_processes_exchange_and_share():
    ended = both("""
        for n in range(3):
            assert processes.exchange([n, "ü", i]) == [[n, "ü", 0], [n, "ü", 1]]
        assert all(x != x for x in processes.exchange(float("nan")))
        assert processes.from_main(lambda: f"asked in {i}") == "asked in 0"

        # Two threads, in whatever order.
        channels = [processes.Channel("a"), processes.Channel("b")]
        results = {}
        def talk(n):
            time.sleep(0.1 * (n == i))
            results[n] = channels[n].exchange(10 * n + i)
        threads = [threading.Thread(target=talk, args=(n,)) for n in range(2)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        assert results == {0: [0, 1], 1: [10, 11]}

        processes.require_same({"same": [1, None]})
        try:
            processes.require_same({"same": 1, "--seed": i + 5})
            raise AssertionError
        except UserError as error:
            assert str(error).startswith("--seed is 6 in process 1 and 5 in process 0: start"), error

        mesh = make_mesh(2, 2)
        x = np.arange(24, dtype=np.float32).reshape(8, 3)
        placed = place(mesh, {"x": x, "row": x[:, 0]})
        assert placed["x"].sharding == batch_sharding(mesh) and not placed["x"].is_fully_addressable
        assert len(placed["x"].addressable_shards) == 2
        for shard in placed["x"].addressable_shards:
            assert shard.data.shape == (2, 3)
            np.testing.assert_array_equal(shard.data, x[shard.index])
        whole = put(x, replicated(mesh))
        assert whole.sharding == replicated(mesh)
        part = jax.jit(lambda y: 2 * y[:4])(placed["x"])
        tree = fetch({**placed, "whole": whole, "part": part, "host": x})
        np.testing.assert_array_equal(tree["part"], 2 * x[:4])
        np.testing.assert_array_equal(tree["row"], x[:, 0])
        for name in ("x", "whole", "host"):
            np.testing.assert_array_equal(tree[name], x)
        time.sleep(i)  # they leave together all the same
    """)
    assert [process.returncode for process in ended] == [0, 0], ended[0].stderr + ended[1].stderr


def test_an_exception_in_one_ends_the_other_which_waits_for_it():
    main, other = both("""
        if i:
            raise RuntimeError("cannot go on\\nbecause of this and that")
        processes.exchange(None)
    """)
    assert (main.returncode, other.returncode) == (1, 1)
    assert other.stderr.endswith("RuntimeError: cannot go on\nbecause of this and that\n")
    assert main.stderr == "error: process 1: RuntimeError: cannot go on\n"


def test_a_failure_of_the_main_process_reaches_one_that_waits_on_a_device():
    main, other = both("""
        mesh = make_mesh(4)
        placed = place(mesh, np.zeros(4))
        fetch(placed)
        if i == 0:
            raise UserError("--workdir is full: give another")
        fetch(placed)
    """)
    assert (main.returncode, other.returncode) == (1, 1)
    assert main.stderr.endswith("UserError: --workdir is full: give another\n")
    assert other.stderr == "error: process 0: --workdir is full: give another\n"
