"""Settings of the whole suite: CPU devices and strict broadcasting."""

import json
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests compile much and compute little: unoptimised code halves their time.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def tiny_model():
    """Two layers, grouped queries, an odd vocabulary: enough to go wrong, quick to compile."""
    from riskpo_jax.models.config import DecoderConfig
    from riskpo_jax.models.decoder import Decoder

    return Decoder(
        DecoderConfig(
            vocab_size=23,
            hidden_size=32,
            intermediate_size=40,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            initializer_range=0.3,
        )
    )


@pytest.fixture(scope="session")
def tiny_params(tiny_model):
    """Weights whose next-token distributions are far from flat."""
    from riskpo_jax.models.partitioning import init_params
    from riskpo_jax.sharding import make_mesh

    return init_params(tiny_model, jax.random.key(0), make_mesh())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data files that $RISKPO_DATA names: gsm8k_train.jsonl, math500.jsonl, ..."""
    if not os.environ.get("RISKPO_DATA"):
        pytest.skip("RISKPO_DATA is not set: it names the folder with gsm8k_train.jsonl and others")
    folder = Path(os.environ["RISKPO_DATA"])
    assert folder.is_dir(), f"RISKPO_DATA={folder} is no folder"
    return folder


# Small tokenizers as the hub has them, one of each kind that a supported model comes with. All are
# byte-level BPE; what tells them apart is how text is split before merging, who adds a BOS and the chat
# template, which is the model's own without tools.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN3_CHAT = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)
QWEN2_CHAT = (
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{%- endif %}" + QWEN3_CHAT
).replace("enable_thinking is false", "false")
LLAMA3_CHAT = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}"
    "{{- message.content | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
R1_CHAT = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- ('<｜User｜>' if message.role == 'user' else '') + message.content }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\n' }}{%- endif %}"
)
_CHATML = {"<|endoftext|>": True, "<|im_start|>": True, "<|im_end|>": True}
_THINK = {"<think>": False, "</think>": False}
_QWEN = {
    "tokenizer_class": "Qwen2Tokenizer",
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "add_bos_token": False,
}
# kind: (model_type, splitting rule, added tokens and whether they are special, tokenizer_config.json)
HUB_TOKENIZERS = {
    "qwen2": ("qwen2", QWEN_SPLIT, _CHATML, {**_QWEN, "chat_template": QWEN2_CHAT}),
    "qwen3": ("qwen3", QWEN_SPLIT, _CHATML | _THINK, {**_QWEN, "chat_template": QWEN3_CHAT}),
    "llama3": (
        "llama",
        LLAMA3_SPLIT,
        dict.fromkeys(
            "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>".split(),
            True,
        ),
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "chat_template": LLAMA3_CHAT,
        },
    ),
    # A LlamaTokenizerFast with splitting rules of its own beside the config.json of a Qwen2 model.
    "r1_distill": (
        "qwen2",
        LLAMA3_SPLIT,
        dict.fromkeys(
            "<｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜begin▁of▁sentence｜>".split(), True
        )
        | _THINK,
        {
            "tokenizer_class": "LlamaTokenizerFast",
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": {"__type": "AddedToken", "content": "<｜begin▁of▁sentence｜>"},
            "eos_token": {"__type": "AddedToken", "content": "<｜end▁of▁sentence｜>"},
            "pad_token": {"__type": "AddedToken", "content": "<｜end▁of▁sentence｜>"},
            "chat_template": R1_CHAT,
        },
    ),
}


@pytest.fixture(scope="session")
def write_tokenizer():
    """write_tokenizer(kind, directory): tokenizer.json and tokenizer_config.json of HUB_TOKENIZERS.

    Tokens 0 to 255 are the bytes in the order of their stand-ins, so that "!" is 0; then come the merges,
    then the added tokens. A config.json with the model_type is written unless there is one.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    def write(kind: str, directory: Path) -> Path:
        model_type, split, added, config = HUB_TOKENIZERS[kind]
        vocab, merges = sorted(ByteLevel.alphabet()), []
        for word in ("user", "system", "assistant", "Ġthe", "Ġstep", "ĊĊ", "123"):
            for end in range(2, len(word) + 1):
                if word[:end] not in vocab:
                    vocab.append(word[:end])
                    merges.append((word[: end - 1], word[end - 1]))
        vocab.append(
            "789"
        )  # no merge leads here: found only where merges are ignored, as in Llama 3
        ids = {token: i for i, token in enumerate(vocab)}
        tokenizer = Tokenizer(models.BPE(ids, merges, ignore_merges=kind == "llama3"))
        tokenizer.normalizer = normalizers.NFC() if kind.startswith("qwen") else None
        tokenizer.pre_tokenizer = Sequence(
            [Split(Regex(split), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_tokens(
            [AddedToken(t, special=special, normalized=False) for t, special in added.items()]
        )
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        if bos := config["bos_token"]:
            bos = bos if isinstance(bos, str) else bos["content"]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos}:0 $A:0",
                pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
                special_tokens=[(bos, tokenizer.token_to_id(bos))],
            )
        directory.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(directory / "tokenizer.json"))
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
        if not (directory / "config.json").exists():
            (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
        return directory

    return write
