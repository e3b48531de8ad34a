"""Flags, flagfiles and configurations say the same."""

import typing
from pathlib import Path

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import flags as experiment_flags
from riskpo_jax.config import Config, from_flat, leaves
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError

ROOT = Path(__file__).parents[2]
FLAGFILES = sorted((ROOT / "experiments" / "flagfiles").glob("*.flags"))


def parse(*args) -> flags.FlagValues:
    values = flags.FlagValues()
    experiment_flags.define_flags(values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    values(["program", *map(str, args)])
    return values


def configured(*args) -> Config:
    return experiment_flags.config_from_flags(parse(*args))


def test_every_setting_is_a_flag_with_its_default_and_help():
    values = parse()
    for name, field, _ in leaves():
        assert values[name].help.endswith(field.metadata["help"])  # absl prefixes the choices
    assert configured() == resolve(Config())


def test_flags_set_what_they_name_and_the_last_one_wins():
    config = configured(
        "--algorithm.alpha=0.1",
        "--eval.k=1, 2",
        "--data.levels=easy,hard",
        "--model.remat=products",
        "--report.tensorboard=false",
        "--algorithm.alpha=0.3",
        "--seed=7",
        "--data.prompt_template={numbers}={target}:",
    )
    assert (config.algorithm.alpha, config.eval.k) == (0.3, (1, 2))
    assert config.data.levels == ("easy", "hard")
    assert config.model.remat == "products" and not config.report.tensorboard and config.seed == 7
    assert config.data.prompt_template == "{numbers}={target}:"


@pytest.mark.parametrize("arg", ["--eval.k=1,x", "--eval.k=1,,2"])
def test_a_list_of_something_else_is_refused(arg):
    with pytest.raises(UserError, match=r"--eval\.k=.* is not a comma-separated list of int"):
        configured(arg)


def line_of_text() -> st.SearchStrategy:
    printable = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
    return st.text(printable, max_size=20).filter(lambda text: text == text.rstrip())


def valid_values(field, kind) -> st.SearchStrategy:
    """Values of a type, whatever they mean: a flagfile must carry them all."""
    if choices := field.metadata["choices"]:
        return st.sampled_from(choices)
    if typing.get_origin(kind) is tuple:
        (item,) = set(typing.get_args(kind)) - {Ellipsis}
        words = st.sampled_from(["easy", "medium", "hard"])
        items = {int: st.integers(), float: st.floats(0, exclude_min=True, allow_infinity=False)}
        return st.lists(items.get(item, words), min_size=1, max_size=3).map(tuple)
    kind = next(part for part in (*typing.get_args(kind), kind) if part is not type(None))
    floats = st.floats(allow_nan=False, allow_infinity=False)
    return {bool: st.booleans(), int: st.integers(), float: floats, str: line_of_text()}[kind]


@settings(deadline=None, max_examples=50)
@given(
    st.fixed_dictionaries(
        {}, optional={name: valid_values(field, kind) for name, field, kind in leaves()}
    )
)
def test_a_flagfile_gives_the_configuration_back(tmp_path_factory, changes):
    config = from_flat(changes)
    file = tmp_path_factory.getbasetemp() / "round_trip.flags"
    file.write_text(experiment_flags.as_flagfile(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            experiment_flags, "resolve", lambda c: c
        )  # it would refuse most of these values
        assert configured(f"--flagfile={file}") == config


@pytest.mark.parametrize("file", FLAGFILES, ids=lambda file: file.stem)
def test_the_flagfiles_resolve_and_survive_being_recorded(file, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # they include each other by their path in the repository
    config = configured(f"--flagfile={file}")
    recorded = tmp_path / "run.flags"
    recorded.write_text(experiment_flags.as_flagfile(config))
    assert configured(f"--flagfile={recorded}") == config


def test_there_are_flagfiles():
    assert {"quickstart", "countdown_warmstart"} <= {file.stem for file in FLAGFILES}
