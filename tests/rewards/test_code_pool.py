"""Worker processes that answer jobs: what becomes of those who come while, and after, they are ended."""

import sys
import threading

import pytest

from riskpo_jax.rewards.code_pool import Pool

ECHO = [
    sys.executable,
    "-c",
    "import sys\n"
    "while head := sys.stdin.buffer.read(4):\n"
    "    body = sys.stdin.buffer.read(int.from_bytes(head, 'big'))\n"
    "    sys.stdout.buffer.write(head + body)\n"
    "    sys.stdout.buffer.flush()\n",
]


def test_jobs_are_answered():
    pool = Pool(ECHO, 2)
    assert [pool.ask([i], 30.0) for i in range(4)] == [[i] for i in range(4)]
    pool.close()


def test_a_job_after_the_end_is_refused():
    """It must not wait for a worker that never comes."""
    pool = Pool(ECHO, 2)
    pool.ask("a", 30.0)
    pool.close()
    refused = []

    def ask():
        with pytest.raises(OSError, match="closed"):
            pool.ask("b", 30.0)
        refused.append(True)

    late = threading.Thread(target=ask, daemon=True)
    late.start()
    late.join(10.0)
    assert refused
    pool.close()


def test_one_that_takes_too_long_is_replaced():
    pool = Pool([sys.executable, "-c", "import time; time.sleep(100)"], 1)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            pool.ask("a", 0.2)
    pool.close()
