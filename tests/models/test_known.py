"""The published models: their sizes, and that transformers reads them."""

import json
import math
from pathlib import Path

import flax.linen as nn
import jax
import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.known import KNOWN, known
from riskpo_jax.models.partitioning import abstract_params

# As published with the models.
PARAMETERS = {
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-14B": 14_770_033_664,
    "Qwen2.5-32B": 32_763_876_352,
    "DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.1-70B": 70_553_706_496,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
}


def test_every_model_is_counted():
    assert KNOWN.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", KNOWN)
def test_parameter_count(name):
    shapes = jax.tree.leaves(nn.unbox(abstract_params(Decoder(KNOWN[name]))))
    assert sum(math.prod(x.shape) for x in shapes) == PARAMETERS[name]


@pytest.mark.parametrize("name", KNOWN)
def test_transformers_reads_the_same(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(KNOWN[name].to_hf()))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.architectures == [type(theirs).__name__.replace("Config", "ForCausalLM")]
    assert DecoderConfig.from_hf(theirs.to_dict(), "theirs") == KNOWN[name]


@pytest.mark.parametrize(
    "name, full",
    [
        ("qwen2.5-1.5b", "Qwen2.5-1.5B"),
        ("Qwen/Qwen3-8B", "Qwen3-8B"),
        ("R1-Distill-Qwen-1.5B", "DeepSeek-R1-Distill-Qwen-1.5B"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1-Distill-Qwen-7B"),
    ],
)
def test_names(name, full):
    assert known(name) is KNOWN[full]


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UserError) as error:
        known("GPT-2")
    assert all(name in str(error.value) for name in ["'GPT-2'", *KNOWN])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", KNOWN)
def test_the_documentation_has_the_count(name):
    rows = (Path(__file__).parents[2] / "docs" / "models.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| {name} |")]
    assert row.endswith(f"| {PARAMETERS[name]:,} |")
