"""The schema: names there and back, presets filled in, contradictions refused by flag name."""

import dataclasses
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.config import AlgorithmConfig, Config, from_flat, get, leaves, to_flat
from riskpo_jax.config_resume import check_resumable
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError

SETTINGS = {name: (field, kind) for name, field, kind in leaves()}


def values_of(kind) -> st.SearchStrategy:
    if typing.get_origin(kind) is tuple:
        return st.lists(values_of(typing.get_args(kind)[0]), max_size=4).map(tuple)
    if type(None) in typing.get_args(kind):
        return st.one_of([values_of(part) for part in typing.get_args(kind)])
    return {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: st.text(max_size=20),
    }[kind]


some_settings = st.fixed_dictionaries(
    {}, optional={name: values_of(kind) for name, (_, kind) in SETTINGS.items()}
)


@settings(deadline=None, max_examples=50)
@given(some_settings)
def test_flat_names_there_and_back(values):
    config = from_flat(values)
    assert from_flat(to_flat(config)) == config
    default = Config()
    for name in SETTINGS:
        assert get(config, name) == values.get(name, get(default, name))


def test_defaults_are_valid_and_resolving_twice_changes_nothing():
    resolved = resolve(Config())
    assert resolve(resolved) == resolved


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="algorithm.alfa"):
        from_flat({"algorithm.alfa": 0.1})


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_explains_itself_and_has_a_sound_default(name):
    field, kind = SETTINGS[name]
    assert field.metadata["help"].strip().endswith(".")
    if choices := field.metadata["choices"]:
        assert field.default in (*choices, None)
    plain = tuple if typing.get_origin(kind) is tuple else typing.get_args(kind) or kind
    assert isinstance(field.default, plain)


SETS = {"data.source": "sets", "data.sets": ("gsm8k", "math")}

# What the flags are, and a part of the complaint: always the flag's own name, the allowed values
# or the other side of the contradiction.
BAD = [
    ({"algorithm.preset": "papr"}, "--algorithm.preset='papr' is not one of paper, official_rel"),
    ({"model.init": "none"}, "--model.init='none' is not one of pretrained, random"),
    ({"train.stage": "sft"}, "--train.stage='sft'"),
    ({"data.on_overlong": "cut"}, "--data.on_overlong='cut' is not one of skip, error"),
    ({"algorithm.credit": "score"}, "--algorithm.credit='score'"),
    ({"algorithm.alpha": 0.8}, "--algorithm.alpha=0.8 and --algorithm.beta=0.8"),
    ({"algorithm.alpha": 0.0}, "--algorithm.alpha=0.0"),
    ({"algorithm.beta": 1.1}, "--algorithm.beta=1.1"),
    ({"algorithm.alpha": float("nan")}, "--algorithm.alpha=nan"),
    ({"algorithm.bundle_size": 7}, "--algorithm.bundle_size=7 does not divide --data.questions"),
    ({"algorithm.bundle_size": 60}, "--algorithm.bundle_size=60 does not divide"),
    ({"algorithm.bundle_size": 0}, "--algorithm.bundle_size=0 must be at least 1"),
    ({"algorithm.omega": -0.1}, "--algorithm.omega=-0.1 must be at least 0"),
    ({"algorithm.clip_low": -0.1}, "--algorithm.clip_low=-0.1 must be at least 0"),
    ({"algorithm.ratio": "word"}, "--algorithm.ratio='word' is not one of token, sequence"),
    ({"algorithm.clip_high": -0.1}, "--algorithm.clip_high=-0.1 must be at least 0"),
    ({"algorithm.tracker_step_size": 0.0}, "--algorithm.tracker_step_size=0.0 must be greater"),
    ({"rollout.group_size": 0}, "--rollout.group_size=0 must be at least 1"),
    ({"rollout.temperature": 0.0}, "--rollout.temperature=0.0 must be greater than 0"),
    ({"rollout.top_p": 0.0}, "--rollout.top_p=0.0 must be in (0, 1]"),
    ({"eval.top_p": 1.5}, "--eval.top_p=1.5 must be in (0, 1]"),
    ({"train.learning_rate": float("nan")}, "--train.learning_rate=nan must be greater than 0"),
    ({"train.adam_b2": 1.0}, "--train.adam_b2=1.0 must be in [0, 1)"),
    ({"train.steps": -1}, "--train.steps=-1 must be at least 0"),
    (
        {"train.minibatches": 7},
        "--train.minibatches=7 does not divide --data.questions_per_step=30",
    ),
    ({"train.tokens_per_micro_batch": -1}, "--train.tokens_per_micro_batch=-1 must be at least 0"),
    ({"train.old_logprobs": "both"}, "--train.old_logprobs='both' is not one of sampler, trainer"),
    ({"rollout.slots": -1}, "--rollout.slots=-1 must be at least 0"),
    ({"rollout.steps_per_sync": 0}, "--rollout.steps_per_sync=0 must be at least 1"),
    ({"rollout.kv_cache_dtype": "int4"}, "--rollout.kv_cache_dtype='int4' is not one of compute"),
    ({"rollout.tensor": -1}, "--rollout.tensor=-1 must be at least 0"),
    ({"model.remat": "some"}, "--model.remat='some' is not one of none, products, all"),
    ({"model.attention": "flash"}, "--model.attention='flash' is not one of auto, xla"),
    ({"eval.k": (1, 33)}, "--eval.k=1,33 asks for more than --eval.samples=32"),
    ({"eval.k": ()}, "--eval.k=() must be"),
    ({"eval.k": (0, 1)}, "--eval.k=(0, 1) must be"),
    ({"data.levels": ()}, "--data.levels=() must be"),
    (
        {"data.source": "jsonl", "reward.name": "math"},
        "--data.source=jsonl needs --data.path",
    ),
    (
        {"data.source": "reasoning_gym", "reward.name": "reasoning_gym"},
        "--data.source=reasoning_gym needs --data.task",
    ),
    (
        {"data.source": "jsonl", "data.path": ("x.jsonl",)},
        "--data.path=x.jsonl names no reward: give --reward.name",
    ),
    (
        {"data.source": "jsonl", "data.path": ("x.jsonl",), "reward.name": "countdown"},
        "--reward.name=countdown grades problems of --data.source=countdown, not of",
    ),
    ({"data.source": "sets"}, "--data.source=sets needs --data.sets"),
    ({"data.sets": ("gsm8k",)}, "--data.sets=gsm8k contradicts --data.source=countdown"),
    (SETS | {"data.weights": (1.0,)}, "--data.weights=1.0 must be one for each of the 2"),
    ({"data.weights": (1.0,)}, "--data.weights=1.0 must be one for each of the 0"),
    (SETS | {"data.weights": (1.0, 0.0)}, "--data.weights=(1.0, 0.0) must be numbers greater"),
    (SETS | {"data.weights": (1.0, float("inf"))}, "--data.weights=(1.0, inf) must be numbers"),
    (SETS | {"data.weights": (1.0, float("nan"))}, "--data.weights=(1.0, nan) must be numbers"),
    (SETS | {"data.sets": ("math", "math")}, "--data.sets names math twice"),
    ({"eval.datasets": ("aime24", "aime24")}, "--eval.datasets names aime24 twice"),
    ({"eval.datasets": ("aime24", "")}, "--eval.datasets=('aime24', '') must be names"),
    ({"eval.problems": 0}, "--eval.problems=0 must be at least 1"),
    ({"data.max_problem_chars": -1}, "--data.max_problem_chars=-1 must be at least 0"),
    (
        {"data.drop_contaminated": True, "data.contamination_ngram": 0},
        "--data.drop_contaminated needs the check that --data.contamination_ngram=0 turns off",
    ),
    (
        {"rollout.group_size": 1, "algorithm.preset": "grpo"},
        "--rollout.group_size=1 leaves nothing to compare",
    ),
    (
        {"rollout.group_size": 1, "algorithm.preset": "gspo"},
        "--rollout.group_size=1 leaves nothing to compare",
    ),
    (
        {"rollout.group_size": 1, "algorithm.credit": "expected"},
        "--rollout.group_size=1 leaves nothing to compare",
    ),
    (
        {"data.task_options": ("min_empty=8",)},
        "--data.task_options=min_empty=8 are of --data.source=reasoning_gym and contradict "
        "--data.source=countdown",
    ),
    (
        {"algorithm.preset": "grpo", "algorithm.credit": "expected"},
        "--algorithm.credit belongs to --algorithm.preset=paper and contradicts "
        "--algorithm.preset=grpo",
    ),
    (
        {"algorithm.preset": "official_released", "algorithm.baseline": "mean"},
        "--algorithm.baseline belongs to",
    ),
    (
        {"algorithm.preset": "rloo", "algorithm.profile": "seeking"},
        "--algorithm.profile=seeking belongs to",
    ),
    (
        {"algorithm.preset": "grpo", "algorithm.levels": "adaptive"},
        "--algorithm.levels=adaptive belongs to --algorithm.preset=paper and contradicts",
    ),
    (
        {"algorithm.profile": "seeking", "algorithm.levels": "adaptive"},
        "--algorithm.levels=adaptive places the tails of --algorithm.profile=averse",
    ),
    ({"reward.isolate": True}, "--reward.isolate is for a reward of your own"),
    ({"reward.format_credit": 1.0}, "--reward.format_credit=1.0 must be in [0, 1)"),
    ({"reward.memory_mb": 64}, "--reward.memory_mb=64 must be at least 128"),
    ({"reward.timeout_s": 0.0}, "--reward.timeout_s=0.0 must be greater than 0"),
    ({"reward.code_timeout_s": -1.0}, "--reward.code_timeout_s=-1.0 must be greater than 0"),
    ({"reward.workers": -1}, "--reward.workers=-1 must be at least 0"),
    ({"data.path": ("a.jsonl", "")}, "--data.path=('a.jsonl', '') must be names of files"),
    ({"data.path": ("a,b.jsonl",)}, "--data.path=('a,b.jsonl',) must be names of files"),
    (
        {"data.chat_template": "chatml"},
        "--data.chat_template='chatml' is not one of none, model, pl",
    ),
    ({"data.system_prompt": "Be brief."}, "--data.system_prompt is a message of a chat template"),
    (
        {"data.thinking": False, "data.chat_template": "plain"},
        "--data.thinking=false is told to a model's own chat template and contradicts "
        "--data.chat_template=plain",
    ),
    ({"lora.rank": -1}, "--lora.rank=-1 must be at least 0"),
    ({"lora.alpha": 0.0}, "--lora.alpha=0.0 must be greater than 0"),
    (
        {"lora.matrices": ("q_proj", "lm_head")},
        "--lora.matrices=q_proj,lm_head must be one or more of q_proj, k_proj, v_proj, o_proj, gate",
    ),
    ({"lora.matrices": ()}, "--lora.matrices= must be one or more of q_proj"),
    ({"lora.path": "x"}, "--lora.path=x without --lora.rank"),
    ({"lora.alpha": 7.0}, "--lora.alpha without --lora.rank"),
    ({"lora.matrices": ("q_proj",)}, "--lora.matrices without --lora.rank"),
    ({"model.param_dtype": "float16"}, "--model.param_dtype='float16' is not one of float32, bfl"),
    ({"train.moment_dtype": "float16"}, "--train.moment_dtype='float16' is not one of float32, bf"),
    ({"data.prompt_template": "Q: {problem}\nA: x"}, "--data.prompt_template"),
    ({"data.prompt_template": "{problem} "}, "--data.prompt_template"),
    ({"model.path": "a\rb"}, "--model.path"),
]


@pytest.mark.parametrize(("values", "complaint"), BAD, ids=lambda x: str(x)[:60])
def test_a_bad_value_is_refused_in_one_line_that_names_its_flag(values, complaint):
    with pytest.raises(UserError) as caught:
        resolve(from_flat(values))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"algorithm.beta": 1.0},
        {"algorithm.bundle_size": 30},
        {"algorithm.bundle_size": 1},
        {"train.minibatches": 3, "train.tokens_per_micro_batch": 1},
        {"rollout.slots": 7, "rollout.tensor": 0},
        {"eval.k": (32,)},
        {"algorithm.preset": "paper", "algorithm.credit": "expected"},
        {"train.steps": 0},
        {"rollout.group_size": 1},
        {"data.source": "jsonl", "data.path": ("x.jsonl",), "reward.name": "my.module:reward"},
        {"eval.temperature": 0.0},
        {"eval.problems": 1},
        SETS | {"data.weights": (0.25, 7.0), "eval.datasets": ("aime24", "jsonl:x.jsonl")},
        SETS | {"reward.name": "countdown"},  # data.sources, which knows the sets, refuses this
    ],
    ids=str,
)
def test_values_on_the_border_are_allowed(values):
    resolved = resolve(from_flat(values))
    for name, value in values.items():
        assert get(resolved, name) == value


LOSSES = {  # ratio, clip_low, clip_high, loss_aggregation
    "paper": ("token", 0.2, 0.2, "token_mean"),
    "official_released": ("token", 0.2, 0.2, "token_mean"),
    "official_intended": ("token", 0.2, 0.2, "token_mean"),
    "grpo": ("token", 0.2, 0.2, "sequence_mean"),  # 2402.03300 eq. 3: 1/G sum 1/|o_i| sum
    "dr_grpo": ("token", 0.2, 0.2, "constant_length"),
    "rloo": ("token", 0.2, 0.2, "sequence_mean"),
    "dapo": ("token", 0.2, 0.28, "token_mean"),  # 2503.14476: clip-higher
    "gspo": ("sequence", 3e-4, 4e-4, "sequence_mean"),  # 2507.18071, section 5.1
}


def loss_of(algorithm):
    return algorithm.ratio, algorithm.clip_low, algorithm.clip_high, algorithm.loss_aggregation


def test_all_presets_are_in_the_table_above():
    assert set(SETTINGS["algorithm.preset"][0].metadata["choices"]) == set(LOSSES)


@pytest.mark.parametrize("preset", LOSSES)
def test_a_preset_fills_what_was_left_open_and_nothing_else(preset):
    filled = resolve(from_flat({"algorithm.preset": preset})).algorithm
    assert loss_of(filled) == LOSSES[preset]
    credit = ("uniform", "none") if preset == "paper" else (None, None)
    assert (filled.credit, filled.baseline) == credit
    open_fields = ("ratio", "clip_low", "clip_high", "loss_aggregation", "credit", "baseline")
    for field in dataclasses.fields(AlgorithmConfig):
        if field.name not in (*open_fields, "preset"):
            assert getattr(filled, field.name) == field.default

    ratio, low, high, _ = LOSSES[preset]
    for name, chosen, expected in (
        ("loss_aggregation", "constant_length", (ratio, low, high, "constant_length")),
        ("clip_low", 0.1, (ratio, 0.1, high, LOSSES[preset][3])),
        ("clip_high", 0.3, (ratio, low, 0.3, LOSSES[preset][3])),
    ):
        given = {"algorithm.preset": preset, f"algorithm.{name}": chosen}
        assert loss_of(resolve(from_flat(given)).algorithm) == expected


@pytest.mark.parametrize("preset", LOSSES)
def test_the_default_clip_range_follows_the_ratio(preset):
    for ratio in ("token", "sequence"):
        given = {"algorithm.preset": preset, "algorithm.ratio": ratio}
        high = 0.28 if preset == "dapo" else 0.2
        clip = (3e-4, 4e-4) if ratio == "sequence" else (0.2, high)
        assert loss_of(resolve(from_flat(given)).algorithm) == (ratio, *clip, LOSSES[preset][3])


@pytest.mark.parametrize(
    ("given", "baseline"),
    [
        ({"algorithm.credit": "expected"}, "leave_one_out"),
        ({"algorithm.credit": "expected", "algorithm.baseline": "none"}, "none"),
        ({"algorithm.credit": "uniform"}, "none"),
        ({"algorithm.baseline": "mean"}, "mean"),
    ],
    ids=str,
)
def test_the_default_baseline_follows_the_credit(given, baseline):
    assert resolve(from_flat(given)).algorithm.baseline == baseline


def test_derived_sizes():
    config = resolve(
        from_flat({"train.minibatches": 2, "algorithm.bundle_size": 5})
    )  # 30 questions x 8 responses
    assert config.sequences_per_step == 240
    assert (config.questions_per_update, config.sequences_per_update) == (15, 120)
    supervised = resolve(from_flat({"train.stage": "supervised", "train.batch_size": 64}))
    assert (supervised.questions_per_update, supervised.sequences_per_update) == (64, 64)


def resume(old: dict, new: dict) -> None:
    check_resumable(to_flat(resolve(from_flat(old))), resolve(from_flat(new)))


def test_the_same_settings_and_those_that_may_change_continue():
    resume({}, {})
    resume({"train.steps": 10}, {"train.steps": 11})
    for name, (field, _) in SETTINGS.items():
        if field.metadata["may_change"] and name != "train.steps":
            resume({}, another_value(name))


def test_a_run_that_is_older_than_a_setting_had_its_default():
    old = to_flat(resolve(from_flat({})))
    del old["train.moment_dtype"]
    del old["algorithm.ratio"]  # which the preset decides
    check_resumable(old, resolve(from_flat({})))
    with pytest.raises(UserError, match="ratio is 'sequence' but .* was made with 'token'"):
        check_resumable(old, resolve(from_flat({"algorithm.ratio": "sequence"})))
    with pytest.raises(UserError, match="was made with 'float32'"):
        check_resumable(old, resolve(from_flat({"train.moment_dtype": "bfloat16"})))


GYM = {
    "data.source": "reasoning_gym",
    "data.task": "chain_sum",
    "reward.name": "reasoning_gym",
}
OTHER_CHOICES = {  # where another value needs company to be valid
    "data.source": GYM,
    "algorithm.alpha": {"algorithm.alpha": 0.25},
    "algorithm.beta": {"algorithm.beta": 0.75},
    "algorithm.bundle_size": {"algorithm.bundle_size": 6},
    "train.minibatches": {"train.minibatches": 2},
    "data.questions_per_step": {"data.questions_per_step": 35},
    "eval.samples": {"eval.samples": 33},
    "data.levels": {"data.levels": ("easy",)},
    "data.path": {"data.path": ("x.jsonl", "y.jsonl")},
    "data.sets": SETS,
    "data.weights": SETS | {"data.weights": (1.0, 2.0)},
    "data.columns": {"data.columns": ("problem=question",)},
    "data.task_options": GYM | {"data.task_options": ("min_terms=2",)},
    "data.keep_levels": {"data.keep_levels": ("1", "2")},
    "eval.datasets": {"eval.datasets": ("aime24", "math500")},
    "eval.problems": {"eval.problems": 7},
    "data.system_prompt": {"data.system_prompt": "Be brief.", "data.chat_template": "model"},
    "data.thinking": {"data.thinking": False, "data.chat_template": "model"},
    "eval.k": {"eval.k": (1,)},
    "lora.alpha": {"lora.alpha": 7.0, "lora.rank": 4},
    "lora.matrices": {"lora.matrices": ("q_proj",), "lora.rank": 4},
    "lora.path": {"lora.path": "x", "lora.rank": 4},
    "reward.isolate": {"reward.isolate": True, "reward.name": "own:reward"},
}
ALREADY = {  # company that the run to continue had, too
    "data.sets": {"data.source": "sets", "data.sets": ("gsm8k",)},
    "data.weights": SETS,
    "data.task_options": GYM,
    "data.thinking": {"data.chat_template": "model"},
    "lora.alpha": {"lora.rank": 4},
    "lora.matrices": {"lora.rank": 4},
    "lora.path": {"lora.rank": 4},
    "reward.isolate": {"reward.name": "own:reward"},
}


def another_value(name: str) -> dict:
    field, kind = SETTINGS[name]
    if name in OTHER_CHOICES:
        return OTHER_CHOICES[name]
    if choices := field.metadata["choices"]:
        return {name: next(choice for choice in choices[::-1] if choice != field.default)}
    other = {bool: lambda v: not v, int: lambda v: v + 1, str: lambda v: v + "x"}
    return {name: other.get(kind, lambda v: (v or 0.5) * 0.9)(field.default)}


FIXED = [name for name, (field, _) in SETTINGS.items() if not field.metadata["may_change"]]


@pytest.mark.parametrize("name", FIXED)
def test_any_other_setting_refuses_and_is_named(name):
    changed = another_value(name)
    with pytest.raises(UserError) as caught:
        resume(ALREADY.get(name, {}), changed)
    shown = to_flat(from_flat(changed))[name]
    assert str(caught.value).startswith(f"--{name} is {shown!r} but ")
    assert "another --workdir" in str(caught.value)


def test_fewer_steps_refuse_and_so_do_more_under_a_schedule_that_depends_on_them():
    with pytest.raises(UserError, match=r"--train\.steps is 9 but .* was made with 10"):
        resume({"train.steps": 10}, {"train.steps": 9})
    cosine = {"train.schedule": "cosine"}
    resume(cosine | {"train.steps": 10}, cosine | {"train.steps": 10})
    with pytest.raises(UserError, match=r"--train\.steps is 11 but .* constant schedule"):
        resume(cosine | {"train.steps": 10}, cosine | {"train.steps": 11})
