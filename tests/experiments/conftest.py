"""The command line twice: inside this process with devices fenced off, and as a real one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments import flags as experiment_flags
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import setup

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "experiments" / "assets"

# A user's own reward: an even number of characters. About every second response of a random model
# gets it, so that there is something to learn from the first step on. While it grades the n-th response
# to a problem of one split it can pull the plug (DIE_AT=eval:n) or return what is no outcome (LIE_AT),
# and it can slow the run down (PAUSE).
OWN_REWARD = """
import collections, os, signal, time
from riskpo_jax.rewards.outcome import verdict

graded = collections.Counter()

def even_length(response, problem):
    split = problem.id.split("-")[1]
    graded[split] += 1
    if os.environ.get("DIE_AT") == f"{split}:{graded[split]}":
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("LIE_AT") == f"{split}:{graded[split]}":
        return "correct"
    time.sleep(float(os.environ.get("PAUSE", 0)))
    return verdict(len(response) % 2 == 0, response)

def odd_length(response, problem):
    return verdict(len(response) % 2 == 1, response)
"""

# Stratified bundles, expected credit and two updates a step: the most state there is to lose.
SMALL_RUN = """
--model.init=random
--reward.name=own:even_length
--data.prompt_template={numbers}={target}:
--data.max_prompt_length=8
--data.size=25
--data.questions_per_step=10
--rollout.group_size=4
--rollout.max_response_length=6
--algorithm.bundle_size=5
--algorithm.credit=expected
--algorithm.bundling=stratified
--train.minibatches=2
--train.learning_rate=1e-2
--train.steps=8
--checkpoint.every=2
--eval.every=4
--eval.problems=2
--eval.samples=4
--eval.k=1,4
--eval.batch_size=6
--report.samples_every=2
--report.samples=3
--report.tensorboard=false
"""


REACHED_DEVICES = 99


@pytest.fixture
def call(monkeypatch, capsys):
    """call(module, *args) -> (exit status, stdout, stderr) of `python -m module *args`.

    Runs in this process, without absl's own process-wide set-up, in the repository or in `folder`.
    Unless `devices` are given, a program whose input is accepted exits with status 99 where it would
    touch the first one.
    """

    def app_run(main, flags_parser):
        sys.exit(main(flags_parser(argv)))

    def call(module, *args, devices: bool = False, folder: Path = ROOT) -> tuple[int, str, str]:
        nonlocal argv
        argv = [module.__name__, *map(str, args)]
        monkeypatch.chdir(folder)
        monkeypatch.setattr(app, "run", app_run)
        if not devices:
            monkeypatch.setattr(setup, "load_mesh", lambda *_: sys.exit(REACHED_DEVICES))
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            with pytest.raises(SystemExit) as exit:
                experiment_flags.run(module.main)
        shown = capsys.readouterr()
        if isinstance(exit.value.code, str):  # what the interpreter does with a text
            return 1, shown.out, shown.err + exit.value.code + "\n"
        return exit.value.code or 0, shown.out, shown.err

    argv = []
    return call


@pytest.fixture
def own(monkeypatch, tmp_path):
    """OWN_REWARD importable as `own` in this process."""
    folder = tmp_path / "on_the_path"
    folder.mkdir()
    (folder / "own.py").write_text(OWN_REWARD)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    yield
    sys.modules.pop("own", None)


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """start(module, *args, **environment): `python -m module *args` as a subprocess.

    The processes share a cache of compiled programs, which saves most of their time. OWN_REWARD is
    importable as `own`.
    """
    folder = tmp_path_factory.mktemp("shell")
    (folder / "own.py").write_text(OWN_REWARD)
    base = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "COLUMNS": "200",
    }

    def start(module, *args, **environment) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, args)],
            env=base | environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def shell(start):
    """As `start`, but waits: -> the exit status, and what was printed, as a CompletedProcess."""

    def shell(module, *args, **environment) -> subprocess.CompletedProcess:
        with start(module, *args, **environment) as process:
            try:
                out, err = process.communicate(timeout=600)  # against a hang: cores are shared
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return shell


@pytest.fixture(scope="session")
def small_run(model_directory, tmp_path_factory) -> list[str]:
    """The flags of a run of 8 steps that learns something; --workdir is left to give."""
    file = tmp_path_factory.mktemp("flags") / "small.flags"
    file.write_text(SMALL_RUN)
    return [f"--flagfile={file}", f"--model.path={model_directory}"]


@pytest.fixture(scope="session")
def finished(shell, small_run, tmp_path_factory) -> Path:
    """The folder of a small run that went through without a break."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = shell("experiments.run", *small_run, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def small_model(directory: Path, asset: str) -> Path:
    """Makes a whole Hugging Face directory: small random weights with the tokenizer of an asset."""
    shutil.copytree(ASSETS / asset, directory)
    shape = json.loads((directory / "config.json").read_text())
    shape |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    (directory / "config.json").write_text(json.dumps(shape))
    config = DecoderConfig.from_directory(directory)
    save_pretrained(directory, init_params(Decoder(config), jax.random.key(1), make_mesh()), config)
    return directory


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory) -> Path:
    """A model directory whose tokens are Countdown's numbers and signs."""
    return small_model(tmp_path_factory.mktemp("models") / "countdown", "countdown-init")


@pytest.fixture(scope="session")
def byte_model_directory(tmp_path_factory) -> Path:
    """A model directory whose tokens are bytes."""
    return small_model(tmp_path_factory.mktemp("models") / "bytes", "tiny-bytes")
