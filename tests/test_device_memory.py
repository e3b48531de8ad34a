"""Out of memory in one line: by a real failure of the CPU's allocator, and in the words of other devices."""

import jax
import jax.numpy as jnp
import pytest

from riskpo_jax.device_memory import explained
from riskpo_jax.errors import UserError

TOO_MANY = 2**44  # floats: 64 TiB


@jax.jit
def too_large(x):
    return jnp.zeros(TOO_MANY) + x


def test_a_real_failure_names_the_part_the_numbers_and_the_remedy():
    with pytest.raises(UserError) as caught, explained("the update", "lower --a.b"):
        jax.block_until_ready(too_large(1.0))
    message = str(caught.value)
    assert message.startswith("the update does not fit into memory: ") and "\n" not in message
    assert "65536.00 GiB" in message and "cpu has" in message and message.endswith(": lower --a.b")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes.\n"
            "BufferAssignment OOM Debugging.",
            "Out of memory while trying to allocate 8.00 GiB; ",
        ),
        (
            "RESOURCE_EXHAUSTED: Failed to allocate request for 6.27GiB (6727663616B) on device ordinal 0",
            "Failed to allocate request for 6.27GiB (6.27 GiB) on device ordinal 0; ",
        ),
        (
            "INTERNAL: during compilation: RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. "
            "Used 18.20G of 15.75G hbm. Exceeded hbm capacity by 2.45G.\n\nTotal hbm usage >= 18.7G:",
            "Used 18.20G of 15.75G hbm. Exceeded hbm capacity by 2.45G; ",
        ),
    ],
    ids=["gpu", "gpu-pool", "tpu"],
)
def test_other_devices_words(theirs, ours):
    with pytest.raises(UserError) as caught, explained("the rollout", "lower --a.b"):
        raise jax.errors.JaxRuntimeError(theirs)
    assert ours in str(caught.value) and "\n" not in str(caught.value)


def test_other_errors_pass():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explained("x", "y"):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with pytest.raises(ZeroDivisionError), explained("x", "y"):
        raise ZeroDivisionError
