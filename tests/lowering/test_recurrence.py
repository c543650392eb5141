"""Loops over time whose matrix products are taken out: the same numbers and gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fairyring.lowering import lower_for_cpu
from tests.lowering.rounding import near

ROUNDING = 1e-5  # of sums of at most 100 products, through at most 7 steps


FAST = {"xla_backend_optimization_level": 0}


def check(loss, *args):
    of_all = tuple(range(len(args)))
    got, expected = (
        jax.jit(jax.value_and_grad(one, argnums=of_all), compiler_options=FAST)(*args)
        for one in (lower_for_cpu(loss), loss)
    )
    near(got, expected, ROUNDING)


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32) / 3


@settings(max_examples=6, deadline=None)
@given(
    length=st.integers(1, 7),
    batch=st.integers(1, 5),
    inputs=st.sampled_from([1, 3, 20]),
    units=st.sampled_from([2, 17]),
    left=st.booleans(),
    reverse=st.booleans(),
    unroll=st.sampled_from([1, 2]),
)
def test_a_simple_recurrence(length, batch, inputs, units, left, reverse, unroll):
    shapes = ((units, inputs), (units, units)) if left else ((inputs, units), (units, units))
    a, b = (random(*shape) for shape in shapes)

    def times(x, w):
        return (w @ x.T).T if left else x @ w

    def loss(a, b, bias, start, xs):
        def step(state, x):
            state = jnp.tanh(times(x, a) + times(state, b) + bias)
            return state, jnp.sin(state)

        end, ys = lax.scan(step, start, xs, reverse=reverse, unroll=unroll)
        return jnp.sum(end * ys)

    check(loss, a, b, random(units), random(batch, units), random(length, batch, inputs))


@pytest.mark.parametrize("kind", [eqx.nn.LSTMCell, eqx.nn.GRUCell])
def test_cells_of_equinox(kind):
    params, static = eqx.partition(kind(5, 6, key=jax.random.key(0)), eqx.is_array)

    def loss(params, xs):
        cell = eqx.combine(params, static)

        def one(xs):
            zero = (jnp.zeros(6), jnp.zeros(6)) if kind is eqx.nn.LSTMCell else jnp.zeros(6)

            def step(state, x):
                state = cell(x, state)
                return state, jax.tree.leaves(state)[0]

            return lax.scan(step, zero, xs)[1]

        return jnp.sum(jnp.cos(jax.vmap(one)(xs)))

    check(loss, params, random(3, 7, 5))


@pytest.mark.dealt(2, "kind")
@pytest.mark.parametrize("kind", [nnx.OptimizedLSTMCell, nnx.LSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_cells_of_flax(kind):
    graph, params, rest = nnx.split(kind(5, 6, rngs=nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, xs):
        cell = nnx.merge(graph, params, rest)
        two = kind in (nnx.OptimizedLSTMCell, nnx.LSTMCell)
        zero = (jnp.zeros((3, 6)), jnp.zeros((3, 6))) if two else jnp.zeros((3, 6))
        states: Any = nnx.RNN(cell)(xs, initial_carry=zero)
        return jnp.sum(jnp.cos(states))

    check(loss, params, random(3, 7, 5))


def test_the_matrix_leaves_the_backward_loop():
    def loss(w, xs):
        return jnp.sum(lax.scan(lambda s, x: (jnp.tanh(s @ w + x), None), jnp.zeros((4, 33)), xs)[0])

    def loops_that_carry_a_matrix(fn):
        program = jax.make_jaxpr(jax.grad(fn))(random(33, 33), random(7, 4, 33))
        scans = [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]
        return sum(any(v.aval.shape == (33, 33) for v in eqn.outvars) for eqn in scans)

    assert loops_that_carry_a_matrix(loss) == 1
    assert loops_that_carry_a_matrix(lower_for_cpu(loss)) == 0


@pytest.mark.parametrize(
    "step",
    [
        lambda s, x, w: (jnp.tanh(s @ w) + jnp.sum(w), s),
        lambda s, x, w: (jnp.tanh(s @ w @ w.T), s @ w),
        lambda s, x, w: (jnp.tanh(jax.jit(jnp.dot)(s, w)) + x, x @ w),
        lambda s, x, w: (lax.cond(x.sum() > 0, jnp.sin, jnp.cos, s @ w), x),
        lambda s, x, w: (s + jnp.sin(x) @ w, w),
    ],
    ids=["also summed", "also transposed", "inside jit", "before a branch", "returned"],
)
def test_other_uses_of_the_matrix(step):
    def loss(w, start, xs):
        end, ys = lax.scan(lambda s, x: step(s, x, w), start, xs)
        return jnp.sum(jnp.sin(end)) + jnp.sum(ys)

    check(loss, random(6, 6), random(3, 6), random(4, 3, 6))


def test_whole_numbers_among_the_inputs_and_no_gradient():
    def loss(w, xs):
        def step(s, now):
            place, x = now
            s = jnp.tanh(s @ w + x * place)
            return s, (s, place + 1)

        (end, (ys, places)) = lax.scan(step, jnp.zeros((3, 6)), (jnp.arange(4), xs))
        return jnp.sum(end * ys) + jnp.sum(places)

    check(loss, random(6, 6), random(4, 3, 6))
    alone, expected = (jax.jit(one)(random(6, 6), random(4, 3, 6)) for one in (lower_for_cpu(loss), loss))
    np.testing.assert_allclose(alone, expected, rtol=1e-5)


def test_for_each_example_and_twice_differentiated():
    def loss(w, xs):
        return jnp.sum(lax.scan(lambda s, x: (jnp.tanh(s @ w + x), None), jnp.zeros((1, 6)), xs)[0] ** 2)

    w, xs = random(6, 6), random(5, 4, 1, 6)
    lowered = lower_for_cpu(loss)

    def each(fn):
        return jax.jit(jax.vmap(jax.grad(fn), (None, 0)))(w, xs)

    near(each(lowered), each(loss), ROUNDING)

    def squared(fn):
        return jax.jit(jax.grad(lambda w: jnp.sum(jax.grad(fn)(w, xs[0]) ** 2)))(w)

    near(squared(lowered), squared(loss), ROUNDING)
