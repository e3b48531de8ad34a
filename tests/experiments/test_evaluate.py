"""The program that evaluates: as the loop does, however often it is cut off, and graded again later."""

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import evaluate
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.evaluator import EvalSet
from riskpo_jax.reporting.files import read_jsonl

EVALUATE = "experiments.evaluate"


def results(folder: Path) -> list[dict]:
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((folder / "results.json").read_text(), parse_constant=refuse)["rows"]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("place", ["", "checkpoints/8"])
def test_a_run_evaluates_to_its_own_rows(call, own, finished, tmp_path, place):
    """By its recorded settings: nothing else is given."""
    out = f"--output={tmp_path / 'out'}"
    status, told, err = call(evaluate, f"--model={finished / place}", out, devices=True)
    assert (status, err) == (0, "")
    rows = results(tmp_path / "out")
    assert rows == [row for row in read_jsonl(finished / "eval.jsonl") if row["step"] == 8]
    assert len(rows) == 4 and "pass@4" in told and "easy" in told
    assert f"step 8 of {finished}" in told and "prompt of countdown-eval" in told


def test_the_model_of_a_run_evaluates_to_the_run_s_last_rows(shell, finished, tmp_path):
    recorded, model = f"--flagfile={finished / 'run.flags'}", f"--model={finished / 'model'}"
    done = shell(EVALUATE, recorded, model, f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    last = [row for row in read_jsonl(finished / "eval.jsonl") if row["step"] == 8]
    assert [row | {"step": 8} for row in results(tmp_path / "out")] == last


def test_a_checkpoint_that_is_not_there(call, finished):
    status, _, err = call(evaluate, f"--model={finished / 'checkpoints' / '7'}")
    assert status == 1 and "holds no checkpoint of step 7; its steps are: " in err


def test_what_is_given_goes_before_what_the_run_has(call, finished, tmp_path):
    """Greedy decoding has no entropy; the rows are strict JSON all the same."""
    given = [
        "--eval.temperature=0",
        "--samples=2",
        "--reward.name=countdown",
        "--eval.batch_size=3",
    ]
    out = f"--output={tmp_path / 'out'}"
    status, _, err = call(evaluate, f"--model={finished}", *given, out, devices=True)
    assert (status, err) == (0, "")
    rows = results(tmp_path / "out")
    assert {(row["entropy"], row["samples"]) for row in rows} == {(None, 2)}
    assert {"pass@1", "avg@2", "maj@2"} <= set(rows[0]) and "pass@4" not in rows[0]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> list[Path]:
    """Two files of problems, of 5 and 3, whose ids have an "eval" for OWN_REWARD to count."""
    folder = tmp_path_factory.mktemp("sets")
    for name, count in (("first", 5), ("second", 3)):
        rows = [
            {"id": f"{name}-eval-{n}", "problem": f"{n}+{n}=", "answer": "1", "level": n % 2}
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "first.jsonl", folder / "second.jsonl"]


@pytest.fixture(scope="module")
def command(byte_model_directory, sets) -> list[str]:
    return [
        EVALUATE,
        f"--model={byte_model_directory}",
        "--datasets=" + ",".join(f"jsonl:{file}" for file in sets),
        "--reward.name=own:even_length",
        "--samples=4",
        "--eval.batch_size=2",
        "--rollout.max_response_length=9",
    ]


@pytest.fixture(scope="module")
def unbroken(shell, command, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    done = shell(*command, f"--output={out}")
    assert done.returncode == 0, done.stderr
    for line in ("problems 2/8 set", "problems 5/8", "problems 8/8", "chat template: none"):
        assert line in done.stdout
    assert "at most 64 tokens of prompt and 9 of response" in done.stdout
    return out


def response_files(folder: Path) -> list[Path]:
    """Those of the two sets, in their order."""
    found = (folder / "responses").iterdir()
    return sorted(found, key=lambda path: read_jsonl(path)[0]["id"])


def test_every_response_is_kept_beside_the_rows(unbroken):
    rows = results(unbroken)
    assert [(row["n"], row["samples"]) for row in rows] == [
        (3, 4),
        (2, 4),
        (5, 4),
        (2, 4),
        (1, 4),
        (3, 4),
    ]
    kept = [read_jsonl(file) for file in response_files(unbroken)]
    assert [len(lines) for lines in kept] == [20, 12]
    for whole, lines in zip((rows[2], rows[5]), kept, strict=True):
        correct = sum(len(line["response"]) % 2 == 0 for line in lines)
        assert correct == whole["outcome/correct"] == sum(line["score"] for line in lines)
        assert whole["avg@4"] == pytest.approx(correct / len(lines)) and 0 < correct < len(lines)
        assert whole["response/length_mean"] == sum(x["length"] for x in lines) / len(lines)


def test_killed_and_resumed_is_byte_for_byte_the_unbroken(shell, command, unbroken, tmp_path):
    out = tmp_path / "out"
    again = [*command, f"--output={out}"]
    # 8 responses a batch. In the third of the first set, while the second is not written yet; then in the
    # second of the other set.
    assert shell(*again, DIE_AT="eval:18").returncode == -signal.SIGKILL
    (first,) = [f for f in (out / "responses").iterdir() if f.read_bytes()]
    assert len(read_jsonl(first)) == 8 and not (out / "results.json").exists()
    with first.open("a") as file:
        file.write('{"id": "first-eval-2", "sam')
    assert shell(*again, DIE_AT="eval:22").returncode == -signal.SIGKILL
    assert sorted(len(read_jsonl(file)) for file in (out / "responses").iterdir()) == [0, 20]
    done = shell(*again)
    assert done.returncode == 0, done.stderr
    assert "problems are done already" in done.stdout
    assert files(out) == files(unbroken)


def test_the_finished_command_again_needs_no_weights(
    shell, command, unbroken, byte_model_directory, tmp_path
):
    before = files(unbroken)
    done = shell(*command, f"--output={unbroken}")
    assert done.returncode == 0 and "8 of 8 problems are done already" in done.stdout
    assert files(unbroken) == before


def test_a_set_is_sampled_alike_with_others_and_alone(call, own, command, sets, unbroken, tmp_path):
    out, (_, *flags) = tmp_path / "alone", command
    flags += [f"--datasets=jsonl:{sets[1]}", f"--output={out}"]
    status, _, err = call(evaluate, *flags, devices=True)
    assert (status, err) == (0, "")
    (alone,) = (out / "responses").iterdir()
    assert alone.read_bytes() == response_files(unbroken)[1].read_bytes()


def test_a_folder_of_other_settings_is_refused(call, command, unbroken):
    _, *flags = command
    status, _, err = call(evaluate, *flags, f"--output={unbroken}", "--samples=8")
    assert status == 1 and "--eval.samples is 8 but" in err and "another --output" in err


def test_a_folder_with_responses_to_other_problems_is_refused(unbroken):
    file = response_files(unbroken)[0]
    written = SimpleNamespace(path=file, rows=read_jsonl(file)[:8])
    problems = [Problem(f"first-eval-{n}", "", "", "first") for n in (0, 1, 2)]
    assert len(evaluate.kept_responses(written, EvalSet("first", problems, None), 4)) == 2
    with pytest.raises(UserError, match="'first-eval-1' where first has 'first-eval-2'"):
        evaluate.kept_responses(written, EvalSet("first", problems[::2], None), 4)


def test_responses_are_graded_again_without_model_or_device(shell, call, own, unbroken, tmp_path):
    out = shutil.copytree(unbroken, tmp_path / "out")
    settings = json.loads((out / "settings.json").read_text())
    settings["model"] = settings["model.path"] = "/gone"
    (out / "settings.json").write_text(json.dumps(settings))
    before = results(out)
    done = shell(EVALUATE, f"--regrade={out}", "--reward.name=own:odd_length", JAX_PLATFORMS="tpu")
    assert done.returncode == 0, done.stderr
    after = results(out)
    for old, new in zip(before, after, strict=True):
        assert new["pass@1"] == pytest.approx(1 - old["pass@1"])
        assert new["outcome/correct"] == old["outcome/wrong"]
        assert (new["entropy"], new["dataset"]) == (old["entropy"], old["dataset"])
    for whole, count in ((before[2], 20), (before[5], 12)):
        right, wrong = whole["outcome/correct"], whole["outcome/wrong"]
        assert right > 0 < wrong
        first, second = sorted([f"correct to wrong {right}", f"wrong to correct {wrong}"])
        assert f"{count} of {count} verdicts changed" in done.stdout
        assert first in done.stdout and second in done.stdout

    status, _, _ = call(evaluate, f"--regrade={out}", "--reward.name=own:even_length")
    assert status == 0 and results(out) == before
    assert files(out / "responses") == files(unbroken / "responses")
    _, told, _ = call(evaluate, f"--regrade={out}")
    assert "0 of 20 verdicts changed" in told and "0 of 12" in told


def test_a_regrading_that_fails_changes_nothing(call, unbroken, tmp_path):
    out = shutil.copytree(unbroken, tmp_path / "out")
    status, _, err = call(evaluate, f"--regrade={out}", "--reward.name=nowhere:reward")
    assert status == 1 and "cannot import nowhere" in err
    # A function that takes no problem fails on all.
    status, _, err = call(evaluate, f"--regrade={out}", "--reward.name=builtins:int")
    assert status == 1 and "failed on all" in err.splitlines()[-1]
    assert files(out) == files(unbroken)
