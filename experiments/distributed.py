"""Flags of a run that is several processes: `--distributed.coordinator` and the two it may need."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from riskpo_jax import processes
from riskpo_jax.config import Config, to_flat
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.evaluator import EvalSet

COORDINATOR = flags.DEFINE_string(
    "distributed.coordinator",
    None,
    "This process is one of several, on several hosts, that make one run: HOST:PORT of process 0, or auto "
    "where JAX finds the others by itself (TPU VMs, Slurm, Open MPI, Kubernetes).",
)
_NUM_PROCESSES = flags.DEFINE_integer("distributed.num_processes", None, "How many they are.")
_PROCESS_ID = flags.DEFINE_integer("distributed.process_id", None, "Which this one is, from 0.")


def together() -> contextlib.AbstractContextManager[None]:
    """`processes.together` as the flags say; without them a process is alone.

    Raises:
      UserError: flags that say too little, or contradict each other.
    """
    where, size = COORDINATOR.value, (_NUM_PROCESSES.value, _PROCESS_ID.value)
    if where in (None, "auto"):
        if size != (None, None):
            raise UserError(
                "--distributed.num_processes and --distributed.process_id need "
                "--distributed.coordinator=HOST:PORT, the address of process 0"
            )
        return processes.together(None, None, None) if where else contextlib.nullcontext()
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--distributed.coordinator={where} is neither HOST:PORT nor auto")
    if None in size or not 0 <= size[1] < size[0]:
        raise UserError(
            f"--distributed.coordinator={where} needs --distributed.num_processes=N and a "
            f"--distributed.process_id from 0 to N - 1, not {size[0]} and {size[1]}"
        )
    return processes.together(where, *size)


def require_same_work(
    config: Config, eval_sets: Sequence[EvalSet], others: Mapping[str, Any]
) -> None:
    """Whether all processes have the same settings and problems; a difference would let them diverge.

    others: what else must be the same, by the name to call it.

    Raises:
      UserError: a difference, in every process.
    """
    settings = {f"--{name}": value for name, value in to_flat(config).items()}
    sizes = {f"the number of problems of {s.name}": len(s.problems) for s in eval_sets}
    processes.require_same(settings | sizes | dict(others))
