"""An exported model is the one that was trained: to us, to transformers and to PEFT."""

import contextlib
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from experiments import export
from experiments import flags as experiment_flags
from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.data.tokenizers import TOKENIZER_FILES, copy_tokenizer
from riskpo_jax.models import hf, masks, peft
from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models.attention import masked
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.lora import Lora
from riskpo_jax.models.partitioning import abstract_params
from riskpo_jax.models.rope import Llama3Scaling
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import setup
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.types import Prompts

TOKENIZER = Path(__file__).parents[2] / "experiments" / "assets" / "countdown-init"
FAMILIES = {
    "qwen2": {"tie_embeddings": True},
    "qwen3": {"qkv_bias": False, "qk_norm": True},
    "llama": {"qkv_bias": False, "rope_scaling": Llama3Scaling(8.0, 1.0, 4.0, 32)},
}
STEPS = 64


def shape(family: str) -> DecoderConfig:
    return DecoderConfig(
        hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=8, max_position_embeddings=128, model_type=family, eos_token_ids=(1,),
        bos_token_id=2, pad_token_id=0, **{"vocab_size": 118, **FAMILIES[family]},
    )  # fmt: skip


def random_tree(model: Decoder, seed: int):
    """Parameters that all count, adapters too."""
    rng = np.random.default_rng(seed)
    shapes = nn.unbox(abstract_params(model))
    return jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def make_model(directory: Path, family: str = "qwen2", dtype=jnp.float32) -> Path:
    """A Hugging Face directory, whose generation config names one more end token."""
    copy_tokenizer(TOKENIZER, directory)
    params = random_tree(Decoder(shape(family)), seed=0)
    generation = {"eos_token_id": [1, 7], "do_sample": True, "top_p": 0.95}
    hf.save_pretrained(directory, params, shape(family), dtype, generation)
    return directory


def make_run(directory: Path, model: Path, *steps: int, **settings):
    """A run's folder with checkpoints of `steps`, as a run leaves it -> what trains at the last."""
    settings = {"model.path": str(model), "train.steps": 9} | settings
    config = resolve(from_flat({name.replace("__", "."): v for name, v in settings.items()}))
    RunDir(directory).claim(config, experiment_flags.as_flagfile(config))
    model, mesh = setup.load_policy(config).model, make_mesh()
    dtype = jnp.float32 if model.lora else config.model.param_dtype
    with contextlib.closing(Checkpoints(directory / "checkpoints", keep_last=9)) as checkpoints:
        for step in steps:
            whole = random_tree(model, seed=step)
            params = lora_lib.split(whole)[1 if model.lora else 0]
            params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
            state = setup.make_state(config, params, setup.make_optimizer(config), mesh)
            checkpoints.save(state, step, None)
    return params


@pytest.fixture
def base(tmp_path):
    return make_model(tmp_path / "base")


@pytest.fixture
def exported(call, tmp_path):
    """exported(*flags) -> the folder that the program wrote; the line it printed is in `said`."""

    def exported(*flags, out: str = "out") -> Path:
        status, said, err = call(export, *flags, f"--out={tmp_path / out}")
        assert (status, err) == (0, "")
        assert said.startswith(f"{tmp_path / out}: ") and said.count("\n") == 1
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        return tmp_path / out

    return exported


def tensors(directory: Path) -> dict[str, np.ndarray]:
    found = {}
    for file in directory.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}
    return found


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def full_logits(config: DecoderConfig, params, tokens: np.ndarray) -> np.ndarray:
    model, valid = Decoder(config), np.ones(tokens.shape, bool)

    @jax.jit
    def logits(params):
        positions = masks.positions_from_valid(valid)
        hidden, _ = model.apply({"params": params}, tokens, positions, masked(masks.causal(valid)))
        return model.apply({"params": params}, hidden, method="unembed")

    return np.asarray(logits(params))


def test_a_run_gives_its_latest_checkpoint(base, exported, tmp_path):
    params = make_run(tmp_path / "run", base, 2, 5)
    out = exported(f"--checkpoint={tmp_path / 'run'}")
    assert DecoderConfig.from_directory(out) == shape("qwen2")
    assert_same(hf.load_params(out, shape("qwen2")), params)
    for name in TOKENIZER_FILES:
        assert (out / name).exists() == (base / name).exists()
        assert not (out / name).exists() or (out / name).read_bytes() == (base / name).read_bytes()
    stored = json.loads((base / "generation_config.json").read_text())
    assert json.loads((out / "generation_config.json").read_text()) == stored


def test_the_model_of_a_finished_run_is_its_latest_checkpoint_exported(shell, finished, tmp_path):
    done = shell("experiments.export", f"--checkpoint={finished}", f"--out={tmp_path / 'out'}")
    assert (done.returncode, done.stderr) == (0, "")
    written = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert written == {file.name: file.read_bytes() for file in (finished / "model").iterdir()}


def test_a_checkpoint_of_a_run_is_named_by_its_folder(base, exported, tmp_path):
    params = make_run(tmp_path / "run", base, 2)
    make_run(tmp_path / "run", base, 5)
    out = exported(f"--checkpoint={tmp_path / 'run' / 'checkpoints' / '2'}")
    assert_same(hf.load_params(out, shape("qwen2")), params)


def test_the_checkpoint_that_a_run_is_writing_stays(base, exported, tmp_path):
    params = make_run(tmp_path / "run", base, 2)
    unfinished = tmp_path / "run" / "checkpoints" / "3.orbax-checkpoint-tmp"
    unfinished.mkdir()
    out = exported(f"--checkpoint={tmp_path / 'run'}")
    assert unfinished.exists()
    assert_same(hf.load_params(out, shape("qwen2")), params)


@pytest.mark.parametrize(
    ("folder", "path"), [("checkpoints", "2"), ("checkpoints/2", "."), ("", ".")]
)
def test_a_checkpoint_named_from_inside_the_run(base, call, tmp_path, folder, path):
    params = make_run(tmp_path / "run", base, 2)
    flags = f"--checkpoint={path}", f"--out={tmp_path / 'out'}"
    assert call(export, *flags, folder=tmp_path / "run" / folder)[0] == 0
    assert_same(hf.load_params(tmp_path / "out", shape("qwen2")), params)


def test_what_a_checkpoint_contains_is_not_needed_elsewhere(base, exported, tmp_path):
    """Of a run on the whole model the weights it began with, of a LoRA run the adapters."""
    params = make_run(tmp_path / "run", base, 2)
    lora, config = Lora(4, 6.0, ("q", "o", "down")), shape("qwen2")
    _, adapters = lora_lib.split(random_tree(Decoder(config, lora=lora), seed=3))
    peft.save_adapters(tmp_path / "start", adapters, config, lora, str(base))
    make_run(tmp_path / "adapted", base, 2, **LORA, lora__path=str(tmp_path / "start"))
    shutil.rmtree(tmp_path / "start")
    exported(f"--checkpoint={tmp_path / 'adapted'}")
    (base / "model.safetensors").unlink()
    out = exported(f"--checkpoint={tmp_path / 'run'}", out="whole")
    assert_same(hf.load_params(out, config), params)


def test_a_run_whose_model_moved(base, exported, tmp_path):
    params = make_run(tmp_path / "run", base, 2)
    base.rename(tmp_path / "moved")
    out = exported(f"--checkpoint={tmp_path / 'run'}", f"--model.path={tmp_path / 'moved'}")
    assert_same(hf.load_params(out, shape("qwen2")), params)


@pytest.mark.parametrize(
    ("family", "dtype"), [("qwen2", "float32"), ("qwen3", "bfloat16"), ("llama", "float16")]
)
def test_exporting_a_directory_is_the_identity(family, dtype, exported, tmp_path):
    """Byte for byte, and again when what was exported is exported."""
    first = make_model(tmp_path / "base", family, dtype)
    for name in ("out", "again"):
        out = exported(f"--checkpoint={first}", out=name)
        assert DecoderConfig.from_directory(out) == shape(family)
        for file in ("config.json", "generation_config.json", "model.safetensors"):
            assert (out / file).read_bytes() == (first / file).read_bytes()
        first = out


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype(dtype, base, exported, call, tmp_path):
    out = exported(f"--checkpoint={base}", f"--dtype={dtype}")
    rounded = {name: x.astype(jnp.dtype(dtype)) for name, x in tensors(base).items()}
    assert_same(tensors(out), rounded)
    assert {x.dtype for x in tensors(out).values()} == {jnp.dtype(dtype)}
    assert json.loads((out / "config.json").read_text())["dtype"] == dtype


def test_shards(base, call, tmp_path):
    out, most = tmp_path / "out", 20_000
    status, said, _ = call(
        export, f"--checkpoint={base}", f"--out={out}", f"--max_shard_gb={most / 1e9}"
    )
    sizes = [file.stat().st_size for file in out.glob("*.safetensors")]
    count = sum(x.size for x in jax.tree.leaves(hf.load_params(base, shape("qwen2"))))
    assert status == 0 and said == (
        f"{out}: {count:,} parameters in float32, {len(sizes)} safetensors files of "
        f"{sum(sizes):,} bytes\n"
    )
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == tensors(base).keys() and len(sizes) > 3
    assert_same(tensors(out), tensors(base))
    assert all(size <= most + 4096 for size in sizes)


def test_every_end_token_of_the_policy_is_exported(base, exported, tmp_path):
    """The sampler also stops at the tokenizer's end token (1)."""
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 7, "top_k": 20}))
    out = exported(f"--checkpoint={base}")
    written = json.loads((out / "generation_config.json").read_text())
    assert written == {"eos_token_id": [7, 1], "top_k": 20}
    (base / "generation_config.json").unlink()
    out = exported(f"--checkpoint={base}", out="none")
    written = json.loads((out / "generation_config.json").read_text())
    assert written == {"eos_token_id": [1], "bos_token_id": 2, "pad_token_id": 0}


def test_a_policy_trained_on_the_plain_template_takes_it_along(base, exported, tmp_path):
    make_run(tmp_path / "run", base, 2, data__chat_template="plain")
    tokenizer = setup.load_tokenizer(exported(f"--checkpoint={tmp_path / 'run'}"))
    messages = [{"role": "user", "content": "1,2"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False).startswith("User: 1,2")


LORA = {"lora__rank": 4, "lora__alpha": 6.0, "lora__matrices": ("q_proj", "o_proj", "down_proj")}


def test_trained_adapters_are_merged(base, exported, tmp_path):
    adapters = make_run(tmp_path / "run", base, 2, **LORA)
    out = exported(f"--checkpoint={tmp_path / 'run'}")
    merged = lora_lib.merge(
        hf.load_params(base, shape("qwen2")), adapters, Lora(4, 6.0, ("q", "o", "down"))
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        hf.load_params(out, shape("qwen2")),
        merged,
    )


def test_adapters_are_added_to_the_base_that_they_were_trained_beside(base, exported, tmp_path):
    """Exported as float32, a base that was bfloat16 in training stays rounded."""
    adapters = make_run(tmp_path / "run", base, 2, **LORA, model__param_dtype="bfloat16")
    out = exported(f"--checkpoint={tmp_path / 'run'}", "--dtype=float32")
    rounded = hf.load_params(base, shape("qwen2"), jnp.bfloat16)
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), rounded)
    merged = lora_lib.merge(rounded, adapters, Lora(4, 6.0, ("q", "o", "down")))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        hf.load_params(out, shape("qwen2")),
        merged,
    )


def test_a_tokenizer_that_transformers_reads_otherwise_is_told(
    write_tokenizer, call, tmp_path, monkeypatch
):
    monkeypatch.setitem(FAMILIES, "qwen2", {"tie_embeddings": True, "vocab_size": 300})
    base = make_model(tmp_path / "base")
    for file in TOKENIZER_FILES:
        (base / file).unlink(missing_ok=True)
    write_tokenizer("r1_distill", base)
    status, said, err = call(export, f"--checkpoint={base}", f"--out={tmp_path / 'out'}")
    assert (status, err) == (0, "") and said.count("\n") == 2
    assert "PreTrainedTokenizerFast.from_pretrained" in said.splitlines()[1]


def test_an_adapter_is_added_before_rounding(exported, tmp_path):
    """A bfloat16 model exported as float32 keeps the bits of the update."""
    base = make_model(tmp_path / "base", dtype=jnp.bfloat16)
    config, lora = shape("qwen2"), Lora(2, 3.0, ("up",))
    _, adapters = lora_lib.split(random_tree(Decoder(config, lora=lora), seed=3))
    peft.save_adapters(tmp_path / "adapter", adapters, config, lora, str(base))
    flags = f"--checkpoint={base}", f"--adapter={tmp_path / 'adapter'}"
    merged = lora_lib.merge(hf.load_params(base, config), adapters, lora)
    full = hf.load_params(exported(*flags, "--dtype=float32", out="full"), config)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), full, merged)
    half = hf.load_params(exported(*flags, out="half"), config, jnp.bfloat16)
    assert_same(half, jax.tree.map(lambda x: x.astype(jnp.bfloat16), full))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--out={}/out"], "--checkpoint=DIR is required"),
        (["--checkpoint={}/base"], "--out=DIR is required"),
        (
            ["--checkpoint={}/none", "--out={}/out"],
            "/none is no run's folder, no RUN/checkpoints/N",
        ),
        (["--checkpoint={}", "--out={}/out"], "is no run's folder"),
        (["--checkpoint={}/base", "--out={}/base"], "/base exists and is not an empty folder"),
        (["--checkpoint={}/base", "--out={}/base/config.json/x"], "config.json/x: Not a directory"),
        (["--checkpoint={}/base", "--out=/proc/none/out"], "--out=/proc/none/out: No such file"),
        (["--checkpoint={}/run/checkpoints/7", "--out={}/out"], "its steps are: 2"),
        (["--checkpoint={}/run/checkpoints", "--out={}/out"], "is no run's folder"),
        (["--checkpoint={}/base/checkpoints/7", "--out={}/out"], "is no run's folder"),
        (
            ["--checkpoint={}/run", "--model.path={}/gone", "--out={}/out"],
            "/gone is not a directory",
        ),
        (["--checkpoint={}/new", "--out={}/out"], "/new: the run has not saved a checkpoint yet"),
        (["--checkpoint={}/base", "--out={}/out", "--adapter={}/base"], "adapter_config.json does"),
        (["--checkpoint={}/base", "--out={}/out", "--adapter={}/other"], "does not fit the model"),
        (
            ["--checkpoint={}/base", "--out={}/out", "--max_shard_gb=0"],
            "--max_shard_gb=0.0 must be",
        ),
        (["--checkpoint={}/base", "--out={}/out", "--dtype=int8"], "<float32|bfloat16|float16>"),
        (["--checkpoint={}/base", "--out={}/out", "--lora.path={}"], "--lora.path means nothing"),
        (["--checkpoint={}/base", "--out={}/out", "--model.path={}"], "contradicts --checkpoint"),
    ],
)
def test_bad_input_is_one_line(flags, named, call, finished_folder):
    before = sorted(finished_folder.rglob("*"))
    status, out, err = call(export, *(flag.format(finished_folder) for flag in flags))
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and named in err, err
    assert sorted(finished_folder.rglob("*")) == before


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory) -> Path:
    """base/ a model, run/ with a checkpoint, new/ without, other/ an adapter of another model."""
    folder = tmp_path_factory.mktemp("folder")
    base = make_model(folder / "base")
    make_run(folder / "run", base, 2)
    RunDir(folder / "new").claim(resolve(from_flat({"model.path": str(base)})), "")
    config, lora = shape("qwen3"), Lora(2, 3.0, ("up",))
    config = DecoderConfig(**{**vars(config), "intermediate_size": 40})
    _, adapters = lora_lib.split(random_tree(Decoder(config, lora=lora), seed=3))
    peft.save_adapters(folder / "other", adapters, config, lora, "elsewhere")
    return folder


# What follows compares with transformers and PEFT, which compute in PyTorch.


@pytest.fixture
def transformers():
    pytest.importorskip("torch", reason="transformers computes in PyTorch")
    import transformers

    return transformers


def torch_logits(model, tokens: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor(tokens)).logits.numpy()


def assert_close(ours, theirs):
    """Within 1e-5, of logits whose largest is 1 to 4: the two sum in different orders."""
    assert 1 < np.abs(theirs).max() < 4
    assert np.abs(ours - theirs).max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_speaks_as_the_policy(family, transformers, exported, tmp_path):
    import torch

    base, config = make_model(tmp_path / "base", family), shape(family)
    params = make_run(tmp_path / "run", base, 2, data__max_prompt_length=8)
    out = exported(f"--checkpoint={tmp_path / 'run'}", "--max_shard_gb=2e-5")

    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        out, dtype="auto", output_loading_info=True
    )
    assert not any(report.values()), report
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    policy = setup.load_policy(from_flat({"model.path": str(base)}))
    text = "1,2,30=4:"
    ids = policy.tokenizer(text)["input_ids"]
    assert tokenizer(text)["input_ids"] == ids and tokenizer.decode(ids) == text

    tokens = np.random.default_rng(0).integers(8, 118, (4, len(ids)))
    tokens[0] = ids
    assert_close(full_logits(config, params, tokens), torch_logits(theirs, tokens))

    programs = Programs(policy.model, make_mesh(), longest=STEPS, eos_ids=policy.eos_ids)
    sampler = Sampler(programs, slots=len(tokens))
    prompts = Prompts(tokens.astype(np.int32), np.full(len(tokens), tokens.shape[1], np.int32))
    greedy = SamplingParams(temperature=0.0)
    ours = sampler(params, jax.random.key(0), prompts, 1, greedy)
    generated = theirs.generate(
        torch.tensor(tokens), attention_mask=torch.ones(tokens.shape, dtype=torch.long),
        max_new_tokens=STEPS, do_sample=False, top_p=None, pad_token_id=0,
    )  # fmt: skip
    generated = generated[:, tokens.shape[1] :].numpy()
    width = generated.shape[1]
    np.testing.assert_array_equal(np.asarray(ours.tokens)[:, :width], generated)
    assert np.asarray(ours.lengths).max() == width == STEPS


def test_a_merged_export_is_peft_s(base, transformers, exported, tmp_path):
    PeftModel, config = pytest.importorskip("peft").PeftModel, shape("qwen2")
    adapters = make_run(tmp_path / "run", base, 2, **LORA)
    out = exported(f"--checkpoint={tmp_path / 'run'}")
    lora = Lora(4, 6.0, ("q", "o", "down"))
    peft.save_adapters(tmp_path / "adapter", adapters, config, lora, str(base))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base)
    merged = PeftModel.from_pretrained(theirs, tmp_path / "adapter").merge_and_unload()
    weights = merged.state_dict()
    for name, ours in tensors(out).items():
        np.testing.assert_allclose(ours, weights[name].numpy(), atol=1e-6)
    tokens = np.random.default_rng(0).integers(8, 118, (2, 9))
    assert_close(
        full_logits(config, hf.load_params(out, config), tokens), torch_logits(merged, tokens)
    )
