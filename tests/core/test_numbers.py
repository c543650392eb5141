"""Numbers as arguments: the same function, and one program for all plans that differ in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend import core

from fairyring.core.numbers import LARGE, lift, literal_numbers

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def looped(rate, bound):
    """A function with numbers in every kind of inner program."""

    def function(x):
        def body(i, y):
            y = jnp.where(y > bound, y * rate, bound)
            return jax.lax.cond(i % 2 == 0, lambda y: y / bound, lambda y: y + rate, y)

        y = jax.lax.fori_loop(0, 3, body, x)
        y, ys = jax.lax.scan(lambda a, b: (a * rate + b, a - bound), y, jnp.stack([x, x * bound]))
        y, _ = jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 0.5 * rate, c[1] + 1), (y, 0))
        y = jax.checkpoint(lambda y: jnp.sin(y * rate))(y)
        y = jax.jit(lambda y: jnp.clip(y, -bound, bound))(y)
        noisy = y + rate * jax.random.uniform(jax.random.key(3), y.shape)
        return noisy, ys, jnp.tanh(x) ** 2.0

    return function


def run(lifted, *arguments):
    return jax.jit(core.jaxpr_as_fun(lifted.program))(*lifted.numbers, *arguments)


def text(lifted):
    avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in lifted.program.in_avals]
    return jax.jit(core.jaxpr_as_fun(lifted.program)).lower(*avals).as_text()


@settings(max_examples=8)
@given(st.floats(0.01, 3.0), st.floats(0.01, 3.0))
def test_what_is_computed_stays_the_same(rate, bound):
    function = looped(rate, bound)
    lifted = lift(jax.make_jaxpr(function)(X))
    expected = jax.tree.leaves(jax.jit(function)(X))
    assert len(lifted.numbers) > 5
    for got, wanted in zip(run(lifted, X), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-6)


def test_programs_that_differ_in_numbers_only_have_one_text():
    one, other = (lift(jax.make_jaxpr(looped(*numbers))(X)) for numbers in ((0.1, 0.7), (0.3, 2.5)))
    assert text(one) == text(other)
    assert text(one) != text(lift(jax.make_jaxpr(lambda x: looped(0.1, 0.7)(x)[0])(X)))


def test_arguments_give_their_values():
    """A program given another's numbers computes what that other does."""
    one, other = (lift(jax.make_jaxpr(looped(*numbers))(X)) for numbers in ((0.1, 0.7), (0.3, 2.5)))
    got = run(one._replace(numbers=other.numbers), X)
    for a, b in zip(got, jax.tree.leaves(jax.jit(looped(0.3, 2.5))(X)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_models_and_losses_keep_their_numbers_and_so_do_their_gradients():
    def loss(w):
        return jnp.sum(jnp.sin(w * 0.37) * 1.5)

    gradient = literal_numbers(jax.grad(loss))
    lifted = lift(jax.make_jaxpr(lambda w: w - 0.1 * gradient(w))(X))
    assert [float(n) for n in lifted.numbers] == [pytest.approx(0.1)]

    inside = literal_numbers(loss)  # differentiated by whoever calls it
    lifted = lift(jax.make_jaxpr(lambda w: w - 0.1 * jax.grad(inside)(w))(X))
    assert [float(n) for n in lifted.numbers] == [pytest.approx(0.1)]


def test_what_stays_a_literal():
    def function(x):
        y = jnp.where(x > 0, x, 0.0) ** 3.5
        return y + jnp.arange(3) * 2, jnp.full((2,), -jnp.inf)

    assert lift(jax.make_jaxpr(function)(X)).numbers == []


def test_zero_is_a_number_where_it_is_a_factor():
    lifted = [lift(jax.make_jaxpr(lambda x, mu=mu: x + mu * (x - 1.0))(X)) for mu in (0.0, 0.5)]
    assert text(lifted[0]) == text(lifted[1])


def test_signs_of_zero_are_kept():
    def function(x):
        return [x * zero for zero in (0.0, -0.0)]

    for got, wanted in zip(run(lift(jax.make_jaxpr(function)(X)), X), function(X), strict=True):
        np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted))


def test_an_unrolled_loop_has_one_number():
    def function(x):
        for _ in range(8):
            x = x - 0.1 * x
        return x

    assert len(lift(jax.make_jaxpr(function)(X)).numbers) == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_types_stay(dtype):
    x = jnp.asarray(X, dtype)

    def function(x):
        return jax.lax.fori_loop(0, 2, lambda i, y: y * 0.3 + dtype(0.25), x)

    (got,) = run(lift(jax.make_jaxpr(function)(x)), x)
    assert got.dtype == dtype
    np.testing.assert_allclose(np.float32(got), np.float32(jax.jit(function)(x)), rtol=1e-2)


def test_large_arrays_that_are_closed_over_become_arguments_and_small_ones_stay():
    large, small = np.ones(LARGE // 4 + 1, np.float32), np.arange(3, dtype=np.float32)

    def function(x):
        return x * small + jnp.asarray(large)[:3]

    lifted = lift(jax.make_jaxpr(function)(X))
    assert [np.size(n) for n in lifted.numbers] == [large.size]
    np.testing.assert_array_equal(run(lifted, X)[0], X * small + 1)


def test_a_function_with_a_derivative_of_its_own_stays_as_its_author_wrote_it():
    @jax.custom_jvp
    def own(x):
        return x * 3.25

    own.defjvp(lambda primals, tangents: (own(*primals), tangents[0] * 7.5))
    lifted = lift(jax.make_jaxpr(lambda x: own(x) * 0.1)(X))
    assert [float(n) for n in lifted.numbers] == [pytest.approx(0.1)]
    np.testing.assert_allclose(run(lifted, X)[0], X * 3.25 * 0.1, rtol=1e-6)
