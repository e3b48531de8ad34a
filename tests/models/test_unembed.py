"""The head's own backward pass against autodiff of the plain product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.models.unembed import unembed

RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((3, 5, 16)).astype(np.float32)
HEAD = RNG.standard_normal((37, 16)).astype(np.float32)
COTANGENT = RNG.standard_normal((3, 5, 37)).astype(np.float32)


def gradients(logits, hidden, head):
    _, pull = jax.vjp(logits, hidden, head)
    return pull(COTANGENT)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_gradients_are_those_of_the_product(dtype, tolerance):
    dtype = jnp.dtype(dtype)
    found = gradients(lambda x, w: unembed(x, w, dtype), HIDDEN.astype(dtype), HEAD)
    exact = gradients(lambda x, w: jnp.einsum("btm,vm->btv", x, w), HIDDEN, HEAD)
    assert [x.dtype for x in found] == [dtype, jnp.float32]
    for one, other in zip(found, exact, strict=True):
        error = np.abs(np.float32(one) - other).max() / np.abs(other).max()
        assert error < tolerance


def test_no_product_of_the_backward_pass_is_wider_than_the_compute_type():
    step = jax.make_jaxpr(lambda x, w: gradients(lambda *a: unembed(*a, jnp.bfloat16), x, w))
    products = [e for e in step(HIDDEN.astype(jnp.bfloat16), HEAD).eqns if "dot" in str(e)]
    inputs = [v.aval.dtype for e in products for v in e.invars if e.primitive.name == "dot_general"]
    assert inputs and set(inputs) == {jnp.dtype(jnp.bfloat16)}
