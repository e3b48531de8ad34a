"""Rollout batches of a finished policy, drawn as its training would draw them: for programs that measure.

What a policy is, `experiments.evaluate` says: a Hugging Face directory, a run's folder, RUN/checkpoints/N.
Of a run all settings are the defaults. Training problems are those from the loader's start on; the random
numbers are none that training has used, and the same for every policy, so that policies are compared on
the same draw.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from experiments.preview import what_the_model_sees
from riskpo_jax.algorithms import quantiles
from riskpo_jax.compile_cache import use_compile_cache
from riskpo_jax.config import Config
from riskpo_jax.data.loader import Loader
from riskpo_jax.data.sources import make_train_source, rewards_named
from riskpo_jax.errors import UserError
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.rewards.divided import divided
from riskpo_jax.rewards.registry import make_grader
from riskpo_jax.training import setup, weights
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.evaluation import evaluation_config, fit_prompts
from riskpo_jax.training.post_train import Experience, collect
from riskpo_jax.training.run import Run
from riskpo_jax.training.source import Source, at_step, find_source
from riskpo_jax.training.state import Purpose, TrainState, purpose_key


@dataclass(frozen=True)
class Subject:
    """One policy's surroundings; its weights are `load(source)`'s, of one of `sources`.

    sources: the checkpoints of a run's folder, in the order of training, or the one policy that was named.
    """

    name: str
    run: Run
    sources: list[Source]

    def load(self, source: Source) -> tuple[Any, Any]:
        """The weights in two parts: those that are frozen, and those that train."""
        config, policy, mesh = self.run.config, self.run.policy, self.run.mesh
        if source.run is None:
            return {}, weights.load_base(config, policy, mesh)
        like = weights.trained_shapes(policy.model, mesh)
        with contextlib.closing(Checkpoints(source.run.checkpoints, read_only=True)) as checkpoints:
            trained = checkpoints.restore_params(like, source.step)
        return weights.load_frozen(config, policy, mesh), trained

    def batches(
        self, frozen: Any, trained: Any, count: int, temperature: float | None = None
    ) -> Iterator[Experience]:
        """The first `count` rollout batches, graded; temperature: if not the settings' own."""
        config = self.run.config
        if temperature is not None:
            config = replace(config, rollout=replace(config.rollout, temperature=temperature))
        run = replace(self.run, config=config)
        root = jax.random.key_data(jax.random.key(config.seed))
        key = jax.random.key_data(purpose_key(root, Purpose.EVALUATION, 0))
        for batch in range(count):
            state = TrainState(
                params=trained,
                opt_state=(),
                step=jnp.int32(batch),
                position=jnp.int32(batch * config.data.questions_per_step),
                tracker=quantiles.init(0),
                key=key,
            )
            yield collect(run, frozen, state)


def sources_at(path: Path, given: Mapping[str, Any], flag: str) -> list[Source]:
    """All checkpoints of a run's folder, or the one policy at `path`. Touches no device.

    Raises:
      UserError: no such policy.
    """
    source = find_source(path, given.get("model.path"), flag)
    last = at_step(source)
    if source.run is None or source.step is not None:
        return [last]
    names = [place.name for place in source.run.checkpoints.iterdir()]
    steps = sorted(int(name) for name in names if name.isdecimal())
    return [replace(source, step=step) for step in steps]


def settings_of(source: Source, given: Mapping[str, Any]) -> tuple[Config, bool]:
    """As `evaluation_config`, for post-training by rewards: a warm start's folder has another stage.

    Raises:
      UserError: settings that contradict each other, or a group of one response.
    """
    config, open_length = evaluation_config(source, {**given, "train.stage": "rl"})
    if config.rollout.group_size < 2:
        raise UserError(
            "--rollout.group_size=1 leaves nothing to compare a response with: give 2 or more"
        )
    return config, open_length


@contextlib.contextmanager
def opened(
    name: str, sources: list[Source], given: Mapping[str, Any], out: Path, console: Console
) -> Iterator[Subject]:
    """What samples and grades, until the block ends. What can fail without a device fails first.

    Raises:
      UserError: as `experiments.run` for settings, data and rewards.
    """
    source = sources[-1]
    config, open_length = settings_of(source, given)
    rewards = rewards_named(config)
    policy = setup.load_policy(config, source.needs_weights)
    if open_length:
        policy = fit_prompts(policy)
        config = policy.config
    problems, skipped = policy.fitting(make_train_source(config))
    if len(problems) < config.data.questions_per_step:
        raise UserError(
            f"--data.questions_per_step={config.data.questions_per_step} exceeds the {len(problems)} "
            "training problems: lower it"
        )
    with contextlib.closing(make_grader(config.reward, rewards)) as grader:
        use_compile_cache(config.compile.cache_dir)
        mesh = setup.load_mesh(config, policy.model.config)
        setup.print_skipped(console, config, skipped, "training")
        for line in what_the_model_sees(policy, problems[0]):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        run = Run(
            config=config,
            policy=policy,
            mesh=mesh,
            sampler=setup.make_sampler(config, policy.model, policy.eos_ids, mesh),
            grader=divided(grader),
            loader=Loader(problems, config.data.questions_per_step, config.seed),
            eval_sets=[],
            directory=RunDir(out),
            console=console,
        )
        yield Subject(name, run, sources)


def names_of(paths: Sequence[Path]) -> list[str]:
    """A word for each: the run's or the directory's name; where these do not differ, with their folders'."""
    places = [path.resolve() for path in paths]
    places = [p.parents[1] if p.parent.name == "checkpoints" else p for p in places]
    for depth in range(1, 1 + max(len(place.parts) for place in places)):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(set(places)):
            break
    return names
