"""Where every parameter of ours lies in a Hugging Face checkpoint: names, axes, and cuts over devices."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from riskpo_jax.models.config import DecoderConfig

# Our leaf, its Hugging Face name, and the axes there -> here. A comma separates the axes of the
# Hugging Face tensor; letters side by side are flattened into one axis there.
# v vocabulary, m model width, h query heads, k key-value heads, d head features, f feed-forward.
TABLE = (
    ("embedding", "model.embed_tokens.weight", "v,m->vm"),
    ("layers/attention_norm/scale", "model.layers.{}.input_layernorm.weight", "m->m"),
    ("layers/attention/q", "model.layers.{}.self_attn.q_proj.weight", "hd,m->mhd"),
    ("layers/attention/k", "model.layers.{}.self_attn.k_proj.weight", "kd,m->mkd"),
    ("layers/attention/v", "model.layers.{}.self_attn.v_proj.weight", "kd,m->mkd"),
    ("layers/attention/q_bias", "model.layers.{}.self_attn.q_proj.bias", "hd->hd"),
    ("layers/attention/k_bias", "model.layers.{}.self_attn.k_proj.bias", "kd->kd"),
    ("layers/attention/v_bias", "model.layers.{}.self_attn.v_proj.bias", "kd->kd"),
    ("layers/attention/o", "model.layers.{}.self_attn.o_proj.weight", "m,hd->hdm"),
    ("layers/attention/o_bias", "model.layers.{}.self_attn.o_proj.bias", "m->m"),
    ("layers/attention/q_norm/scale", "model.layers.{}.self_attn.q_norm.weight", "d->d"),
    ("layers/attention/k_norm/scale", "model.layers.{}.self_attn.k_norm.weight", "d->d"),
    ("layers/mlp_norm/scale", "model.layers.{}.post_attention_layernorm.weight", "m->m"),
    ("layers/mlp/gate", "model.layers.{}.mlp.gate_proj.weight", "f,m->mf"),
    ("layers/mlp/up", "model.layers.{}.mlp.up_proj.weight", "f,m->mf"),
    ("layers/mlp/down", "model.layers.{}.mlp.down_proj.weight", "m,f->fm"),
    ("layers/mlp/gate_bias", "model.layers.{}.mlp.gate_proj.bias", "f->f"),
    ("layers/mlp/up_bias", "model.layers.{}.mlp.up_proj.bias", "f->f"),
    ("layers/mlp/down_bias", "model.layers.{}.mlp.down_proj.bias", "m->m"),
    ("final_norm/scale", "model.norm.weight", "m->m"),
    ("head", "lm_head.weight", "v,m->vm"),
)


@dataclass(frozen=True)
class Leaf:
    """One parameter of ours, and the tensors of the Hugging Face file that make it up.

    `split` is `hf_shape` with its flattened axes apart, `firsts` where in it each axis of `hf_shape`
    begins; `axes` permutes it into our order. A stacked leaf has one tensor a layer on its leading
    axis.
    """

    path: tuple[str, ...]
    hf_names: tuple[str, ...]
    hf_shape: tuple[int, ...]
    split: tuple[int, ...]
    firsts: tuple[int, ...]
    axes: tuple[int, ...]
    stacked: bool

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.split[axis] for axis in self.axes)
        return (len(self.hf_names), *shape) if self.stacked else shape

    def from_hf(self, tensor: jax.Array) -> jax.Array:
        return tensor.reshape(self.split).transpose(self.axes)

    def to_hf(self, array: jax.Array) -> jax.Array:
        return array.transpose(np.argsort(self.axes)).reshape(self.hf_shape)

    def hf_sharding(self, sharding: NamedSharding) -> NamedSharding:
        """The cut of a Hugging Face tensor that leaves a device what `sharding` of the leaf gives it.

        A flattened axis is cut as the first of its letters is. A cut of a later letter (none of
        LOGICAL_RULES) is not contiguous there: the axis stays as it is without it.
        """
        spec = (*sharding.spec, *(None,) * (len(self.shape) - len(sharding.spec)))
        cuts = dict(zip(self.axes, spec[self.stacked :], strict=True))
        return NamedSharding(sharding.mesh, PartitionSpec(*(cuts[axis] for axis in self.firsts)))


def leaves(config: DecoderConfig) -> list[Leaf]:
    """The rows of TABLE that a model of this config has, with their sizes."""
    c = config
    sizes = {
        "v": c.vocab_size, "m": c.hidden_size, "f": c.intermediate_size,
        "h": c.num_heads, "k": c.num_kv_heads, "d": c.head_dim,
    }  # fmt: skip

    def leaf(path: str, name: str, rule: str) -> Leaf:
        there, here = rule.split("->")
        hf_axes, letters, stacked = there.split(","), there.replace(",", ""), "{}" in name
        return Leaf(
            path=tuple(path.split("/")),
            hf_names=tuple(name.format(i) for i in range(c.num_layers)) if stacked else (name,),
            hf_shape=tuple(math.prod(sizes[x] for x in axis) for axis in hf_axes),
            split=tuple(sizes[x] for x in letters),
            firsts=tuple(letters.index(axis[0]) for axis in hf_axes),
            axes=tuple(letters.index(x) for x in here),
            stacked=stacked,
        )

    absent = {"head"} if c.tie_embeddings else set()
    absent |= _optional("attention", ("q_bias", "k_bias", "v_bias"), c.qkv_bias)
    absent |= _optional("attention", ("o_bias",), c.o_bias)
    absent |= _optional("attention", ("q_norm/scale", "k_norm/scale"), c.qk_norm)
    absent |= _optional("mlp", ("gate_bias", "up_bias", "down_bias"), c.mlp_bias)
    return [leaf(*row) for row in TABLE if row[0] not in absent]


def blocks(config: DecoderConfig) -> list[tuple[Leaf, ...]]:
    """The leaves in the order of the model: the embedding, those of the layers, what follows them."""
    groups = itertools.groupby(leaves(config), key=lambda leaf: leaf.stacked)
    return [tuple(group) for _, group in groups]


def _optional(block: str, names: tuple[str, ...], present: bool) -> set[str]:
    """The leaves of a block that are absent unless the model has that option."""
    return set() if present else {f"layers/{block}/{name}" for name in names}
