"""One optimizer update on any number of responses, as four jitted programs and a host loop over them.

    read prompts -> add micro-batch, add micro-batch, ... -> back through the prompts   (for every chunk)
    -> divide by the count and apply

Each program is compiled once for every shape that `training.micro_batches` makes. Nothing here waits for
the devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from riskpo_jax.masked import Mean, length_mask
from riskpo_jax.models import lora
from riskpo_jax.models.attention import Attention
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.prompts import PromptStates, read_prompts, states_sharding
from riskpo_jax.sharding import data_shards, place, replicated
from riskpo_jax.training.accumulate import Metrics, Sums, micro_batch_sums, prompt_gradients
from riskpo_jax.training.logprobs import response_logprobs
from riskpo_jax.training.micro_batches import Budget, Sequences, chunks, largest_chunk
from riskpo_jax.training.optimizer import apply_finite
from riskpo_jax.types import MicroBatch, Prompts

TokenLoss = Callable[[jax.Array, jax.Array, jax.Array | None, MicroBatch], tuple[Mean, Metrics]]
"""(log-probabilities, entropies, the reference's log-probabilities or None, micro-batch), all [N, R], ->
the unreduced loss and its metrics."""


class Update:
    """Gradient descent on `token_loss` for one model on one mesh."""

    def __init__(
        self,
        model: Decoder,
        mesh: Mesh,
        optimizer: optax.GradientTransformation,
        token_loss: TokenLoss,
        *,
        temperature: float,
        attention: Attention,
        budget: Budget,
        shardings: Any,
    ):
        """shardings: of the parameters that train, which their gradients get, too."""
        self.mesh, self.budget, model = mesh, budget, model.clone(mesh=mesh)
        self._score = partial(
            response_logprobs,
            model,
            temperature=temperature,
            attention=attention,
            shards=data_shards(mesh),
        )
        self.token_loss, self.optimizer = token_loss, optimizer
        # A layer at a time: a prompt is too small a part of the work to compile all its layers one by one.
        reader = model.clone(unroll=1)
        self._read_prompts = partial(read_prompts, reader, attention=attention)
        whole = replicated(mesh)
        sums, states = Sums(shardings, whole, whole), states_sharding(model.config, mesh)
        self.read = jax.jit(self._read, out_shardings=states)
        self.score = jax.jit(self._logprobs, out_shardings=whole)
        self.no_sums = jax.jit(self._no_sums, out_shardings=sums)
        self.nothing_wanted = jax.jit(_zeros_in_float32, out_shardings=states)
        self.add = jax.jit(self._add, donate_argnums=(0, 1), out_shardings=(sums, states))
        self.read_back = jax.jit(self._read_back, donate_argnums=0, out_shardings=sums)
        self.apply = jax.jit(self._apply, donate_argnums=(0, 1))

    def __call__(
        self,
        params: Any,
        opt_state: Any,
        frozen: Any,
        reference: Any,
        sequences: Sequences,
        questions: Sequence[int],
        key: jax.Array,
    ) -> tuple[Any, Any, dict[str, Mean | jax.Array]]:
        """params and opt_state after one update on the responses to `questions`; both are donated.

        Args:
          frozen: what the policy has besides `params`. reference: like `params`, of the policy that the
            loss compares with, or None. key: for rounding.
        """
        sums = self.sums(params, frozen, reference, sequences, questions)
        return self.apply(params, opt_state, sums, key)

    def sums(
        self,
        params: Any,
        frozen: Any,
        reference: Any,
        sequences: Sequences,
        questions: Sequence[int],
    ) -> Sums:
        """The unreduced gradients, loss and metrics of an update; the arguments are `__call__`'s."""
        sums = None
        for prompts, batches in chunks(sequences, questions, self.budget, data_shards(self.mesh)):
            prompts = place(self.mesh, prompts)
            states = self.read(params, frozen, prompts)
            beside = None if reference is None else self.read(reference, frozen, prompts)
            wanted = self.nothing_wanted(states)
            for batch in batches:
                args = params, frozen, states, reference, beside, prompts, place(self.mesh, batch)
                sums = self.no_sums(*args) if sums is None else sums
                sums, wanted = self.add(sums, wanted, *args)
            sums = self.read_back(sums, wanted, params, frozen, prompts)
        return sums

    def logprobs(self, params: Any, frozen: Any, sequences: Sequences) -> np.ndarray:
        """float32[N, R]: the log-probabilities of all responses under the policy, 0 beyond their length."""
        found_NxR = np.zeros_like(sequences.responses.logprobs)
        questions = range(len(sequences.prompts.lengths))
        for prompts, batches in chunks(sequences, questions, self.budget, data_shards(self.mesh)):
            prompts = place(self.mesh, prompts)
            states = self.read(params, frozen, prompts)
            for batch in batches:
                scored = self.score(params, frozen, states, prompts, place(self.mesh, batch))
                rows = batch.number >= 0
                found_NxR[batch.number[rows], : scored.shape[1]] = np.asarray(scored)[rows]
        return found_NxR

    def rehearse(
        self,
        params: Any,
        opt_state: Any,
        frozen: Any,
        reference: Any,
        key: jax.Array,
        prompt_width: int,
        longest: int,
    ) -> None:
        """Runs every program but the last on the largest shapes there can be, and compiles the last."""
        prompts, batch = largest_chunk(self.budget, data_shards(self.mesh), prompt_width, longest)
        prompts, batch = place(self.mesh, prompts), place(self.mesh, batch)
        states = self.read(params, frozen, prompts)
        beside = None if reference is None else self.read(reference, frozen, prompts)
        args = params, frozen, states, reference, beside, prompts, batch
        sums, wanted = self.add(self.no_sums(*args), self.nothing_wanted(states), *args)
        sums = self.read_back(sums, wanted, params, frozen, prompts)
        jax.block_until_ready(sums)
        self.apply.lower(params, opt_state, sums, jax.random.split(key, 1)[0]).compile()

    def _read(self, params: Any, frozen: Any, prompts: Prompts) -> PromptStates:
        return self._read_prompts(lora.join(frozen, params), prompts)

    def _logprobs(self, params, frozen, states, prompts: Prompts, batch: MicroBatch) -> jax.Array:
        logprobs_NxR, _ = self._score(
            lora.join(frozen, params), states, prompts.lengths, batch.question, batch.tokens
        )
        return jnp.where(length_mask(batch.lengths, logprobs_NxR.shape[1]), logprobs_NxR, 0)

    def _sums(
        self,
        params,
        frozen,
        states,
        reference,
        reference_states,
        prompts: Prompts,
        batch: MicroBatch,
    ) -> tuple[Sums, PromptStates]:
        def score(params: Any, states: PromptStates) -> tuple[jax.Array, jax.Array]:
            whole = lora.join(frozen, params)
            return self._score(whole, states, prompts.lengths, batch.question, batch.tokens)

        compared = None
        if reference is not None:
            compared, _ = score(reference, reference_states)

        def loss_fn(params: Any, states: PromptStates, batch: MicroBatch):
            return self.token_loss(*score(params, states), compared, batch)

        return micro_batch_sums(loss_fn, params, states, batch)

    def _add(self, sums: Sums, wanted: PromptStates, *args) -> tuple[Sums, PromptStates]:
        return jax.tree.map(jnp.add, (sums, wanted), self._sums(*args))

    def _no_sums(self, *args) -> Sums:
        """Placed as `add` returns them, so that it is compiled once."""
        sums, _ = jax.eval_shape(self._sums, *args)
        return _zeros_in_float32(sums)

    def _read_back(self, sums: Sums, wanted: PromptStates, params, frozen, prompts) -> Sums:
        read = partial(self._read, frozen=frozen, prompts=prompts)
        gradients = prompt_gradients(read, params, wanted)
        return sums.replace(gradients=jax.tree.map(jnp.add, sums.gradients, gradients))

    def _apply(self, params, opt_state, sums: Sums, key: jax.Array):
        params, opt_state, metrics = apply_finite(
            self.optimizer, mean_gradients(sums), opt_state, params, key
        )
        return params, opt_state, sums.metrics | {"loss/total": sums.loss} | metrics


def mean_gradients(sums: Sums) -> Any:
    """Those of the loss: the global count divides, once."""
    return jax.tree.map(lambda g: g / jnp.maximum(sums.loss.count, 1), sums.gradients)


def _zeros_in_float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), tree)
