"""From a configuration to its problems, and what grades them."""

import json

import pytest

from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.data.countdown import CountdownSource
from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.data.loader import Loader
from riskpo_jax.data.mixture import Mixture
from riskpo_jax.data.sources import (
    EVALUATION_SEED,
    make_eval_sources,
    make_train_source,
    rewards_named,
)
from riskpo_jax.errors import UserError


def configured(**values):
    return resolve(from_flat({name.replace("__", "."): value for name, value in values.items()}))


def problems(source):
    return [source[i] for i in range(len(source))]


@pytest.fixture
def folder(tmp_path):
    """Small files of gsm8k, math, aime24 and humaneval, and mine.jsonl in columns of its own."""

    def write(name, rows):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)

    for name, count in (("gsm8k_train", 4), ("math_train", 6), ("aime24", 3)):
        row = {"answer": "1", "level": "2"}
        write(name, [row | {"id": f"{name}-{i}", "problem": f"{name} {i}"} for i in range(count)])
    task = {"prompt": "def f():", "entry_point": "f", "test": "x", "canonical_solution": ""}
    write("humaneval", [task | {"task_id": "HumanEval/0"}])
    write("mine", [{"question": "1+1?", "final": 2}, {"question": "2+2?", "final": 4}])
    return tmp_path


def sets(folder, *names, **values):
    data = {"data.source": "sets", "data.sets": names, "data.folder": str(folder)}
    return configured(**data, **values)


def test_countdown_is_as_ever():
    config = configured(data__size=40, seed=3)
    old = CountdownSource(3, "train", 40, max_number=20, max_target=60)
    assert problems(make_train_source(config)) == problems(old)
    held = make_eval_sources(config)
    assert list(held) == ["countdown"] and len(held["countdown"]) == 300
    fewer = make_eval_sources(configured(eval__problems=7))["countdown"]
    old = CountdownSource(EVALUATION_SEED, "eval", 21, max_number=20, max_target=60)
    assert problems(fewer) == problems(old)
    assert {problem.reward for problem in problems(fewer)} == {"countdown"}


def test_jsonl_is_as_ever(folder):
    files = [str(folder / f"{name}.jsonl") for name in ("gsm8k_train", "aime24")]
    values = {"data__source": "jsonl", "data__path": (files[0],), "reward__name": "math"}
    assert problems(make_train_source(configured(**values))) == problems(JsonlSource(files[0]))
    assert make_eval_sources(configured(**values)) == {}
    held = make_eval_sources(configured(**values, data__eval_path=files[1]))
    assert list(held) == ["aime24"] and len(held["aime24"]) == 3
    held = make_eval_sources(configured(**values, data__eval_path=files[1], eval__problems=2))
    assert problems(held["aime24"]) == problems(JsonlSource(files[1]))[:2]


def test_files_to_evaluate_on_stand_in_for_what_would_be_drawn(folder):
    held = configured(data__eval_path=str(folder / "aime24.jsonl"), reward__name="math")
    assert list(make_eval_sources(held)) == ["aime24"]
    assert rewards_named(held, training=False) == set()
    both = configured(
        data__eval_path=str(folder / "aime24.jsonl"),
        eval__datasets=("countdown",),
        reward__name="m:f",
    )
    assert list(make_eval_sources(both)) == ["countdown", "aime24"]


def test_other_columns(folder):
    columns = ("problem=question", "answer=final")
    spec = f"jsonl:{folder / 'mine.jsonl'}"
    config = sets(folder, spec, data__columns=columns, reward__name="math")
    first, second = problems(make_train_source(config))
    assert (first.id, first.text, first.answer) == ("mine-0", "1+1?", "2")
    for bad in ("problem", "problem=", "text=question", "id=x,id=y"):
        with pytest.raises(UserError, match="--data.columns: .* must be FIELD=COLUMN"):
            config = sets(folder, spec, data__columns=tuple(bad.split(",")), reward__name="math")
            make_train_source(config)


def test_sets_without_weights_are_shuffled_like_files_one_after_the_other(folder):
    named = make_train_source(sets(folder, "gsm8k", "math"))
    files = JsonlSource(folder / "gsm8k_train.jsonl", folder / "math_train.jsonl")
    assert [problem.id for problem in problems(named)] == [p.id for p in problems(files)]
    for position in (0, 17):
        ours, theirs = (Loader(s, 8, 0).indices(position) for s in (named, files))
        assert ours.tolist() == theirs.tolist()


def test_sets_with_weights(folder):
    source = make_train_source(sets(folder, "gsm8k", "countdown:hard", data__weights=(3.0, 1.0)))
    assert isinstance(source, Mixture) and source.weights == (3.0, 1.0)
    batch = Loader(source, 40, 0).batch(0)
    assert sum(problem.dataset == "gsm8k" for problem in batch) == 30
    assert {problem.level for problem in batch if problem.dataset == "countdown"} == {"hard"}


def test_filters_are_for_training_only(folder):
    config = sets(
        folder, "gsm8k", "math", data__keep_levels=("2",), eval__datasets=("aime24",), eval__k=(1,)
    )
    assert {problem.dataset for problem in problems(make_train_source(config))} == {"math"}
    assert len(make_eval_sources(config)["aime24"]) == 3


def test_evaluation_sets_by_name(folder):
    mine = f"jsonl:{folder / 'aime24.jsonl'}"
    config = sets(folder, "gsm8k", eval__datasets=("humaneval", "countdown:easy", "aime24"))
    held = make_eval_sources(config)
    sizes = [("humaneval", 1), ("countdown", 100), ("aime24", 3)]
    assert [(name, len(source)) for name, source in held.items()] == sizes
    assert set(make_eval_sources(config, drawn=False)) == {"humaneval", "aime24"}
    assert make_eval_sources(sets(folder, "gsm8k")) == {}
    with pytest.raises(UserError, match="two evaluation sets are called aime24"):
        make_eval_sources(sets(folder, "gsm8k", eval__datasets=("aime24", mine)))
    with pytest.raises(UserError, match="data set amc23: there is no .*amc23.jsonl: get"):
        make_eval_sources(sets(folder, "gsm8k", eval__datasets=("amc23",)))


def test_a_prepared_set_serves_where_its_file_is_absent(folder):
    prepared = make_train_source(sets(folder, "tfds:gsm8k"))
    named = make_train_source(sets(folder, "gsm8k"))
    assert problems(prepared) == problems(named)
    file = folder / "gsm8k_train.jsonl"
    file.write_text(file.read_text().replace("gsm8k_train 0", "corrected"))
    named = make_train_source(sets(folder, "gsm8k"))
    assert named[0].text == "corrected"  # the file comes first
    (folder / "gsm8k_train.jsonl").unlink()
    assert problems(make_train_source(sets(folder, "gsm8k"))) == problems(prepared)


def test_reasoning_gym_is_kept_apart(folder):
    pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")
    spec = "reasoning_gym:coin_flip"
    values = {"data__size": 30, "eval__problems": 30}
    config = sets(folder, spec, "gsm8k", eval__datasets=(spec,), **values)
    held = problems(make_eval_sources(config)["reasoning_gym/coin_flip"])
    trained = {problem.text for problem in problems(make_train_source(config))}
    assert held and not trained & {problem.text for problem in held}
    assert {problem.reward for problem in held} == {"reasoning_gym"}
    single = configured(data__source="reasoning_gym", data__task="coin_flip", **values)
    assert problems(make_eval_sources(single)["reasoning_gym/coin_flip"]) == held


def test_options_are_of_the_task_that_is_drawn():
    pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")
    config = configured(
        data__source="reasoning_gym",
        data__task="mini_sudoku",
        data__task_options=("min_empty=3", "max_empty=3"),
        data__size=5,
        eval__problems=5,
    )
    held = make_eval_sources(config)["reasoning_gym/mini_sudoku"]
    for problem in problems(make_train_source(config)) + problems(held):
        assert problem.metadata["puzzle"].count("0") == 3
    other = configured(
        data__source="reasoning_gym",
        data__task="mini_sudoku",
        data__task_options=("min_empty=3", "max_empty=3"),
        eval__datasets=("reasoning_gym:chain_sum",),
        eval__problems=5,
    )
    assert len(make_eval_sources(other)["reasoning_gym/chain_sum"]) == 5  # which has no such option


@pytest.mark.parametrize(
    ("values", "rewards"),
    [
        ({}, {"countdown"}),
        ({"eval__datasets": ("aime24", "humaneval")}, {"countdown", "math", "code"}),
        ({"data__source": "sets", "data__sets": ("gsm8k", "mbpp")}, {"math", "code"}),
        ({"data__source": "sets", "data__sets": ("tfds:math",)}, {"math"}),
        ({"data__source": "reasoning_gym", "data__task": "chain_sum"}, {"reasoning_gym"}),
        ({"data__source": "jsonl", "data__path": ("x.jsonl",), "reward__name": "a:b"}, set()),
    ],
)
def test_the_rewards_are_known_without_reading_a_file(values, rewards):
    assert rewards_named(configured(**values)) == rewards


def test_where_only_evaluation_matters():
    held = {"eval__datasets": ("aime24",)}
    assert rewards_named(configured(**held), training=False) == {"math"}
    assert rewards_named(configured(), training=False) == {"countdown"}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"eval__datasets": ("jsonl:x.jsonl",)}, "--eval.datasets: jsonl:x.jsonl names no reward"),
        ({"data__eval_path": "x.jsonl"}, "--data.eval_path: x.jsonl names no reward"),
        (
            {"data__source": "sets", "data__sets": ("datasets:a/b",)},
            "--data.sets: datasets:a/b names no reward: give --reward.name",
        ),
        (
            {
                "data__source": "sets",
                "data__sets": ("gsm8k",),
                "eval__datasets": ("humaneval",),
                "reward__name": "math",
            },
            "--eval.datasets: humaneval is graded by code, not by --reward.name=math",
        ),
        (
            {"reward__name": "math"},  # for which the target itself would do
            "--data.source: countdown is graded by countdown, not by --reward.name=math",
        ),
        (
            {"data__source": "sets", "data__sets": ("gsm8k",), "reward__name": "countdown"},
            "--data.sets: gsm8k is graded by math, not by --reward.name=countdown",
        ),
        (
            {"data__source": "sets", "data__sets": ("gsm8kk",)},
            "--data.sets: unknown data set 'gsm8kk' .close: gsm8k",
        ),
    ],
)
def test_rewards_that_are_missing_or_do_not_fit(values, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        rewards_named(configured(**values))
    assert "\n" not in str(caught.value)


def test_a_reward_of_ones_own_grades_anything():
    values = {"eval__datasets": ("humaneval", "jsonl:x.jsonl"), "reward__name": "mine:reward"}
    rewards_named(configured(**values))
