"""Bad input ends a program at once: one line that names the mistake, status 1, no device touched."""

import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from experiments import evaluate, run
from experiments import flags as experiment_flags
from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.reporting.run_dir import RunDir

REACHED_DEVICES = 99
GOOD_LINE = {"id": "p1", "problem": "1+1?", "answer": "2"}


@pytest.fixture
def refused(call, tmp_path):
    """refused(module, *args) -> the message; checks status, shape, and that nothing was written."""

    def refused(module, *args) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, out, err = call(module, *args)
        assert (status, out) == (1, "")
        assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert "ERROR" not in err and "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return refused


@pytest.fixture
def task(model_directory, tmp_path):
    """The flags of a good run on Countdown."""
    return [
        f"--workdir={tmp_path / 'run'}",
        f"--model.path={model_directory}",
        "--data.prompt_template={numbers}={target}:",
        "--data.size=10",
        "--data.questions_per_step=5",
        "--eval.problems=2",
    ]


@pytest.fixture
def jsonl_task(byte_model_directory, tmp_path):
    """jsonl_task(*lines) -> the flags of a good run, but for what is wrong with the lines."""

    def jsonl_task(*lines) -> list[str]:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "problems.jsonl").write_text("".join(text + "\n" for text in texts))
        return [
            f"--workdir={tmp_path / 'run'}",
            f"--model.path={byte_model_directory}",
            "--data.source=jsonl",
            f"--data.path={tmp_path / 'problems.jsonl'}",
            "--data.max_prompt_length=8",
            "--data.questions_per_step=1",
            "--algorithm.bundle_size=1",
            "--reward.name=math",
        ]

    return jsonl_task


def test_good_input_reaches_the_devices(call, task, jsonl_task, model_directory):
    assert call(run, *task) == (REACHED_DEVICES, "", "")
    assert call(evaluate, *task, f"--model={model_directory}") == (REACHED_DEVICES, "", "")
    assert call(run, *jsonl_task(GOOD_LINE)) == (REACHED_DEVICES, "", "")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--algorithm.alfa=0.1"], "'algorithm.alfa'. Did you mean: algorithm.alpha ?"),
        (["--nosuchflag=1"], "'nosuchflag'"),
        (["--algorithm.preset=papr"], "--algorithm.preset=papr: value should be one of <paper|"),
        (["--algorithm.alpha=low"], "--algorithm.alpha=low"),
        (["--model.remat=perhaps"], "--model.remat=perhaps: value should be one of <none|products"),
        (["--eval.k=1,x"], "--eval.k=1,x"),
        (["--flagfile=nowhere.flags"], "nowhere.flags"),
        (["--flagfile=experiments"], "'experiments'"),
        (["quickstart"], "unexpected argument 'quickstart'"),
        (["--algorithm.alpha=0.8"], "--algorithm.alpha=0.8 and --algorithm.beta=0.8"),
        (["--algorithm.bundle_size=7"], "--algorithm.bundle_size=7 does not divide"),
        (["--algorithm.preset=grpo", "--algorithm.credit=expected"], "--algorithm.credit"),
        (["--reward.name=countdwn"], "unknown reward 'countdwn': use auto, countdown, math"),
        (["--reward.name=nowhere:reward"], "cannot import nowhere"),
        (["--data.levels=easy,impossible"], "impossible"),
        (["--data.prompt_template={numbrs}"], "numbrs"),
        (["--data.chat_template=model"], "no chat template"),
        (
            ["--data.system_prompt=Be brief."],
            "--data.system_prompt is a message of a chat template",
        ),
        (["--distributed.coordinator=host"], "--distributed.coordinator=host is neither HOST:PORT"),
        (["--distributed.process_id=0"], "need --distributed.coordinator=HOST:PORT"),
        (
            [
                "--distributed.coordinator=host:1234",
                "--distributed.num_processes=2",
                "--distributed.process_id=2",
            ],
            "from 0 to N - 1, not 2 and 2",
        ),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_flags(refused, task, flags, named):
    assert named in refused(run, *task, *flags)


def test_a_workdir_is_needed(refused):
    assert "--workdir=DIR is required" in refused(run)
    assert "--model=DIR is required" in refused(evaluate)


# How a model directory can be broken, and what the message names.
def drop(name):
    return lambda directory: (directory / name).unlink()


def cut(name):
    def cut(directory):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2])

    return cut


def lose_a_shard(directory):
    tensors = load_file(directory / "model.safetensors")
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in (0, 1)}
    for shard, own in shards.items():
        save_file({name: tensors[name] for name in own}, directory / shard)
    weight_map = {name: shard for shard, own in shards.items() for name in own}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()
    (directory / "model-00002-of-00002.safetensors").unlink()


def outgrow_the_embedding(directory):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_tokens([f"<extra {i}>" for i in range(500)])
    tokenizer.save(str(directory / "tokenizer.json"))


@pytest.mark.parametrize(("module", "flag"), [(run, "--model.path"), (evaluate, "--model")])
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (shutil.rmtree, ("model is not a directory", "model is no run's folder")),
        (drop("config.json"), ("config.json does not exist", "model is no run's folder")),
        (cut("config.json"), "config.json is not valid JSON"),
        (drop("tokenizer.json"), "tokenizer"),
        (cut("tokenizer.json"), "tokenizer.json is broken"),
        (outgrow_the_embedding, "tokenizer.json has 614 tokens, more than the vocab_size of"),
        (drop("model.safetensors"), "has no model.safetensors"),
        (cut("model.safetensors"), "model.safetensors is cut short"),
        (lose_a_shard, "model-00002-of-00002.safetensors does not exist"),
    ],
    ids=lambda x: x.replace(" ", "_") if isinstance(x, str) else "",
)
def test_a_missing_or_half_written_model_directory(
    refused, task, model_directory, tmp_path, module, flag, damage, named
):
    directory = shutil.copytree(model_directory, tmp_path / "model")
    damage(directory)
    message = refused(module, *task, f"{flag}={directory}")
    named = named[module is evaluate] if isinstance(named, tuple) else named
    assert named in message and str(directory) in message


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ('{"id": "p2", "problem": ', ":2: not valid JSON"),
        ({"id": "p2", "problem": "1+2?"}, ":2: the field 'answer' is missing"),
        ({"id": "p2", "problem": "", "answer": "3"}, ":2: the field 'problem' must be"),
        ("[1]", ":2: a JSON object is needed"),
    ],
    ids=["half_a_line", "no_answer", "empty_problem", "a_list"],
)
def test_a_bad_line_is_named_by_file_and_number(
    refused, jsonl_task, byte_model_directory, tmp_path, bad, named
):
    flags = jsonl_task(GOOD_LINE, bad)
    bad_file = tmp_path / "problems.jsonl"
    assert f"{bad_file}{named}" in refused(run, *flags)

    good_file = tmp_path / "good.jsonl"
    good_file.write_text(json.dumps(GOOD_LINE) + "\n")
    as_evaluation = [*flags, f"--data.path={good_file}", f"--data.eval_path={bad_file}"]
    assert f"{bad_file}{named}" in refused(run, *as_evaluation)
    model = f"--model={byte_model_directory}"
    assert f"{bad_file}{named}" in refused(evaluate, *as_evaluation, model)


def test_an_empty_or_missing_file_and_nothing_to_evaluate(
    refused, jsonl_task, byte_model_directory, tmp_path
):
    assert "problems.jsonl holds no problems" in refused(run, *jsonl_task())
    missing = f"--data.path={tmp_path / 'nowhere.jsonl'}"
    assert "nowhere.jsonl (No such file" in refused(run, *jsonl_task(), missing)
    second = f"--data.path={tmp_path / 'problems.jsonl'},{tmp_path / 'nowhere.jsonl'}"
    assert "nowhere.jsonl (No such file" in refused(run, *jsonl_task(GOOD_LINE), second)
    model = f"--model={byte_model_directory}"
    assert "give --datasets or --data.eval_path" in refused(evaluate, *jsonl_task(GOOD_LINE), model)


def test_problems_that_could_not_be_graded_again(refused, byte_model_directory, tmp_path):
    (tmp_path / "twice.jsonl").write_text(f"{json.dumps(GOOD_LINE)}\n" * 2)
    flags = [f"--datasets=jsonl:{tmp_path / 'twice.jsonl'}", "--reward.name=math"]
    flags += [f"--model={byte_model_directory}"]
    assert "twice: two problems have the id 'p1'" in refused(evaluate, *flags)


@pytest.mark.parametrize("module", [run, evaluate])
def test_sets_by_name(refused, task, tmp_path, module):
    """Told before a device is touched: what is absent, and names that nobody knows."""
    model = next(flag for flag in task if flag.startswith("--model.path="))
    named = [
        *task,
        f"--data.folder={tmp_path}",
        *[model.replace(".path", "")] * (module is evaluate),
    ]
    message = refused(module, *named, "--eval.datasets=aime24")
    assert f"there is no {tmp_path / 'aime24.jsonl'}: get " in message
    assert "unknown data set 'aime42' (close: aime" in refused(
        module, *named, "--eval.datasets=aime42"
    )


def test_contamination_is_told_and_dropped(call, jsonl_task, tmp_path):
    other = {"id": "p2", "problem": "2+2?", "answer": "4"}
    flags = jsonl_task(GOOD_LINE, other)
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps(other | {"id": "q", "problem": "2 + 2 ?"}) + "\n")
    status, out, err = call(run, *flags, f"--data.eval_path={held}", "--data.drop_contaminated")
    assert (status, err) == (REACHED_DEVICES, "")
    first, second = out.splitlines()
    assert first.startswith("contamination: 1 training problems of problems share")
    assert first.endswith("problems of held, such as p2 with q: '2+2'")
    assert second == "--data.drop_contaminated left out 1 training problems"
    held.write_text(json.dumps(other | {"problem": "3+3?"}) + "\n")
    _, out, _ = call(run, *flags, f"--data.eval_path={held}")
    assert out.startswith("contamination: no training problem shares 13 words in a row")


def test_a_prompt_over_the_limit_is_counted_or_refused(call, refused, jsonl_task):
    long = {"id": "long", "problem": "one and one are?", "answer": "2"}
    flags = jsonl_task(GOOD_LINE, long)
    message = refused(run, *flags, "--data.on_overlong=error")
    assert "problem long has 16 tokens" in message and "--data.max_prompt_length is 8" in message

    status, out, err = call(run, *flags, "--data.on_overlong=skip")
    assert (status, err) == (REACHED_DEVICES, "")
    assert out.startswith("skipped 1 training problems") and out.count("\n") == 1

    message = refused(run, *jsonl_task(long))
    assert "none of the 1 problems" in message and "--data.max_prompt_length" in message


def test_a_chat_template_that_raises(refused, task, model_directory, tmp_path):
    directory = shutil.copytree(model_directory, tmp_path / "model")
    template = directory / "chat_template.jinja"
    template.write_text("{{ raise_exception('this model does not chat') }}")
    flags = [f"--model.path={directory}", "--data.chat_template=model"]
    message = refused(run, *task, *flags)
    assert f"{template} raises an error (this model does not chat)" in message
    assert "--data.chat_template=plain" in message


def test_more_questions_a_step_than_there_are(refused, jsonl_task):
    message = refused(run, *jsonl_task(GOOD_LINE), "--data.questions_per_step=2")
    assert "--data.questions_per_step=2 exceeds the 1 training problems" in message


def test_a_workdir_made_with_other_settings(refused, call, task, tmp_path):
    config = resolve(from_flat({"train.steps": 5, "algorithm.omega": 0.5}))
    RunDir(tmp_path / "run").claim(config, experiment_flags.as_flagfile(config))
    recorded = f"--flagfile={tmp_path / 'run' / 'run.flags'}"
    workdir, model = task[0], task[1]

    assert "--model.path is" in refused(run, recorded, workdir, model)
    # These are refused before the recorded model, which is not there, is even looked for.
    assert "--algorithm.omega is 0.7" in refused(run, recorded, workdir, "--algorithm.omega=0.7")
    assert "--train.steps is 4" in refused(run, recorded, workdir, "--train.steps=4")


def test_a_workdir_that_is_something_else(refused, task, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert f"--workdir={folder}" in refused(run, *task)
    assert "--workdir=README.md" in refused(run, *task, "--workdir=README.md")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--samples=4", "--k=1,8"], "--eval.k=1,8 asks for more than --eval.samples=4 responses"),
        (["--samples=4", "--k=one"], "--eval.k=one is not a comma-separated list of int"),
        (["--output={}/thesis"], "thesis is no empty folder and holds no evaluation"),
        (["--model={}/none"], "--model={}/none is no run's folder"),
        (
            ["--datasets=countdown,countdown"],
            "--eval.datasets names countdown twice: leave one out",
        ),
        (
            ["--datasets=jsonl:{}/none", "--reward.name=math"],
            "cannot read the problems in {}/none (No such file or directory): name another file",
        ),
        (["--rollout.max_response_length=999999"], "--rollout.max_response_length=999999 exceed"),
        (["--regrade={}/thesis"], "--model contradicts --regrade"),
    ],
)
def test_an_evaluation_that_cannot_be(refused, task, model_directory, tmp_path, flags, named):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    flags = [flag.format(tmp_path) for flag in flags]
    message = refused(evaluate, *task, f"--model={model_directory}", *flags)
    assert named.format(tmp_path) in message


def test_a_regrading_that_cannot_be(refused, tmp_path):
    regrade = f"--regrade={tmp_path}"
    assert "name the folder of an evaluation" in refused(evaluate, regrade)
    (tmp_path / "settings.json").write_text('{"model": "m"}')
    assert "finish the evaluation first" in refused(evaluate, regrade)
    (tmp_path / "results.json").write_text('{"rows": [{"step": 0}]}')
    message = refused(evaluate, regrade, "--samples=8")
    assert "--eval.samples contradicts --regrade" in message and "--reward.*" in message


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--algorithm.bundel_size=5"], "algorithm.bundel_size"),
        (["--flagfile=experiments/flagfiles/quickstart.flags", "--model.path=gone"], "gone"),
    ],
)
def test_the_shell_sees_one_line_and_status_1(shell, tmp_path, flags, named):
    """As above, through a real process, on a platform which is not there to be touched."""
    workdir = tmp_path / "run"
    done = shell("experiments.run", f"--workdir={workdir}", *flags, JAX_PLATFORMS="tpu")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert named in done.stderr and not workdir.exists()
