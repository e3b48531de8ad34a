"""Measures a step of training: `python -m experiments.benchmark --workload=w_small` prints one JSON line.

Rollout and update are those of a run; prompts, weights and rewards are random. docs/performance.md says
what each figure means.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import ceilings, machine, profiling
from experiments import flags as experiment_flags
from experiments import work as model_work
from experiments.steps import Stepper, StepTimes
from experiments.workloads import WORKLOADS, Workload, workload
from riskpo_jax.compilation import CompileCounter
from riskpo_jax.compile_cache import use_compile_cache
from riskpo_jax.config import Config, from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError

_WORKLOAD = flags.DEFINE_string("workload", "w_small", f"What is done: {', '.join(WORKLOADS)}.")
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Steps that are timed, after one that compiles and one more.", lower_bound=3
)

_PROFILE = flags.DEFINE_bool(
    "profile", False, "Add the seconds that each part of one more step takes, from a trace of it."
)

_SECTIONS = ("seed", "model", "rollout", "algorithm", "train", "mesh", "compile")
_MEANINGLESS = ("model.path", "model.init", "train.stage", "train.steps")


def main() -> None:
    work = workload(_WORKLOAD.value)
    config = configure(work)
    use_compile_cache(config.compile.cache_dir)
    with contextlib.closing(CompileCounter()) as compiled:
        stepper = Stepper(config, work)
        first = stepper.step()
        line = {"workload": _WORKLOAD.value} | machine.describe()
        line |= {"cold_s": machine.process_seconds(), "first_step_s": first.step_s}
        stepper.step()
        others = machine.others_seconds()
        times = [stepper.step() for _ in range(_REPEATS.value)]
        line |= summary(times) | {"others_cpus": others_cpus(others, times)}
        line |= {
            "compile_s": compiled.seconds,
            "compilations": compiled.count,
            "cache_hits": compiled.cache_hits,
            "peak_memory_bytes": machine.peak_bytes(),
        }
    if _PROFILE.value:
        line["profile"] = profiled(stepper)
    line |= utilisation(config, work, times, prefill_seconds(stepper, work))
    if work.mean_response_length is not None:
        scheduled = stepper.scheduled_seconds(work.lengths_QxG(), _REPEATS.value)
        line |= {
            "scheduled_rollout_s": scheduled,
            "rollout_s_to_scheduled": line["rollout_s"] / scheduled,
        }
    del stepper
    if work.mean_response_length is not None:
        line |= against_packed(work, times)
    print(json.dumps(rounded(line)))


def configure(work: Workload) -> Config:
    """The settings of the workload and those given on the command line, which must not change it.

    Raises:
      UserError: a setting that the workload fixes, or that means nothing here.
    """
    given, fixed = experiment_flags.given_settings(), work.settings()
    for name in given:
        if name in fixed:
            raise UserError(f"--{name} is fixed by the workload: leave it out, or choose another")
        if name.split(".")[0] not in _SECTIONS or name in _MEANINGLESS:
            raise UserError(f"--{name} means nothing to this program")
    return resolve(from_flat(given | fixed))


def summary(times: Sequence[StepTimes]) -> dict[str, Any]:
    """Median, least and most of the seconds, and the tokens that were sampled in them."""
    line: dict[str, Any] = {"repeats": len(times)}
    for name in ("rollout_s", "update_s", "step_s"):
        values = [getattr(t, name) for t in times]
        line |= {
            name: statistics.median(values),
            f"{name}_min": min(values),
            f"{name}_max": max(values),
        }
    tokens = int(times[-1].lengths_QxG.sum())
    line |= {"generated_tokens": tokens, "generated_tokens_per_s": tokens / line["rollout_s"]}
    return line


def others_cpus(before: float | None, times: Sequence[StepTimes]) -> float | None:
    """How many CPUs others kept busy, on average, while the steps ran: 0 on a quiet machine."""
    after = machine.others_seconds()
    if before is None or after is None:
        return None
    return max(0.0, after - before) / sum(t.step_s for t in times)


def utilisation(
    config: Config, work: Workload, times: Sequence[StepTimes], prefill: float
) -> dict[str, float]:
    """The work that the medians did, as fractions of this machine's ceilings."""
    c, devices = work.model, machine.describe()["devices"]
    lengths_QxG = times[-1].lengths_QxG
    prompts_Q = np.full(work.questions, work.prompt_length)
    flops_per_s = devices * ceilings.matrix_product_flops_per_s(work.dtype)
    bytes_per_s = devices * ceilings.copy_bytes_per_s()
    line = summary(times)
    decode = line["rollout_s"] - prefill
    size = jnp.dtype(work.dtype).itemsize
    read = model_work.decode_bytes(c, prompts_Q, lengths_QxG, size, size)
    update_flops = model_work.update_flops(c, prompts_Q, lengths_QxG)
    rollout_flops = model_work.forward_flops(c, prompts_Q, lengths_QxG)
    return {
        "matrix_product_flops_per_s": flops_per_s,
        "copy_bytes_per_s": bytes_per_s,
        "prefill_s": prefill,
        "update_flops": update_flops,
        "rollout_flops": rollout_flops,
        "decode_bytes": read,
        "update_mfu": update_flops / line["update_s"] / flops_per_s,
        "rollout_mfu": rollout_flops / line["rollout_s"] / flops_per_s,
        "decode_mbu": read / decode / bytes_per_s,
    }


def prefill_seconds(stepper: Stepper, work: Workload) -> float:
    """Of a rollout that ends with the first token."""
    return stepper.rollout_seconds(np.ones_like(work.lengths_QxG()), _REPEATS.value)


def profiled(stepper: Stepper) -> dict[str, Any]:
    """One step under the profiler: its seconds, and those of its parts down to a thousandth of it."""
    times = []
    parts = profiling.profile(lambda: times.append(stepper.step()))
    least = times[0].step_s / 1000
    shown = {part: seconds for part, seconds in parts.items() if seconds >= least}
    return {"step_s": times[0].step_s, "operations_s": sum(parts.values()), "parts_s": shown}


def against_packed(work: Workload, times: Sequence[StepTimes]) -> dict[str, float]:
    """The same prompts and as many tokens, in responses of one length: what lengths that differ cost.

    The length is the mean rounded up, so that the packed work is never less.
    """
    lengths_QxG = times[-1].lengths_QxG
    packed = dataclasses.replace(
        work,
        response_length=int(np.ceil(lengths_QxG.mean())),
        mean_response_length=None,
    )
    stepper = Stepper(configure(packed), packed)
    for _ in range(2):
        stepper.step()
    line = summary([stepper.step() for _ in times])
    share = lengths_QxG.sum() / line["generated_tokens"]
    ratios = {}
    for name in ("rollout_s", "update_s", "step_s"):
        ratios[f"packed_{name}"] = line[name] * share
        ratios[f"{name}_to_packed"] = summary(times)[name] / ratios[f"packed_{name}"]
    return ratios


def rounded(line: dict[str, Any]) -> dict[str, Any]:
    """Four significant digits: no measurement here has more."""
    return {
        k: rounded(v) if isinstance(v, dict) else float(f"{v:.4g}") if isinstance(v, float) else v
        for k, v in line.items()
    }


if __name__ == "__main__":
    experiment_flags.run(main)
