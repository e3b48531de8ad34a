"""To be imported before JAX: arrays stay on the CPU, and libtpu compiles without looking for a TPU."""

import os

os.environ.update(
    JAX_PLATFORMS="cpu",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # its lock is for hardware
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v5e-4",  # any; unset, libtpu complains, as it does about the next one
    TPU_WORKER_HOSTNAMES="localhost",
    TPU_STDERR_LOG_LEVEL="3",
    TPU_MIN_LOG_LEVEL="3",
)
