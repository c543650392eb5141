"""Whatever numbers come in, what a stage promises of those that go out holds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.aggregation import Auxiliary, Message, MessageSpec, Stage
from fairyring.aggregation.finite import square
from fairyring.core.cores import core_processors
from tests.aggregation.extremes import any_auxiliaries, any_vectors

AUXILIARIES = (
    Auxiliary("examples", math.inf),
    Auxiliary("loss", 5.0),
    Auxiliary("always 0", 0.0),
    Auxiliary("perplexity", math.inf),
)
KEY, ROUND = jax.random.key(1), jax.random.key(2)


def encoded(stage: Stage, spec: MessageSpec, vectors: np.ndarray, auxiliaries: np.ndarray) -> Message:
    """Messages of clients with keys of their own, one a row."""
    bound = stage.bind(spec)
    keys = jax.random.split(KEY, len(vectors))
    encode = jax.jit(
        jax.vmap(lambda vector, auxiliary, key: bound.encode(Message(vector, auxiliary), key, ROUND))
    )
    return Message(*map(np.asarray, encode(vectors, auxiliaries, keys)))


thinning = st.one_of(
    st.just(fr.rotate()),
    st.just(fr.rotate(block=8, failure=0)),
    st.builds(fr.count_sketch, st.integers(1, 3), st.integers(1, 90), failure=st.just(0)),
    st.sampled_from([fr.random_k(fraction=0.6), fr.top_k(fraction=0.3)]),
)
weightings = st.sampled_from(
    [fr.weight_uniformly(), fr.weight_by_examples(), fr.weight_by_examples(6), fr.weight_by_examples(2**-64)]
)


@st.composite
def chains(draw) -> Stage:
    """A weighting, a clip and what may stand around them; then perhaps whole numbers, perhaps modulo some."""
    parts = [*draw(st.lists(thinning, max_size=2)), fr.clip(draw(st.sampled_from([2.0**-64, 0.5, 2.0**64])))]
    parts += draw(st.lists(thinning, max_size=1))
    parts.insert(draw(st.integers(0, len(parts))), draw(weightings))
    if draw(st.booleans()):
        parts.append(
            fr.quantize(draw(st.sampled_from([2, 8, 16])), bound=draw(st.sampled_from([0.1, 2.0**64])))
        )
    return fr.chain(*parts)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(stage=chains(), dimension=st.sampled_from([1, 17, 70]), seed=st.integers(0, 2**31))
def test_a_chain_with_a_clip_keeps_its_bounds_whatever_comes_in(stage, dimension, seed):
    dice = np.random.default_rng(seed)
    spec = MessageSpec(dimension, 20, AUXILIARIES)
    out = encoded(stage, spec, any_vectors(dice, 36, dimension), any_auxiliaries(dice, 36, len(AUXILIARIES)))
    stated = stage.bind(spec).spec
    if stated.l2 is not None or stated.integer:
        assert np.isfinite(out.vector).all()
    if stated.l2 is not None:
        assert (np.linalg.norm(out.vector.astype(np.float64), axis=1) <= stated.l2 * (1 + 1e-5)).all()
    if stated.linf is not None:
        assert (np.abs(out.vector.astype(np.float64)) <= stated.linf * (1 + 1e-5)).all()
    for values, auxiliary in zip(out.auxiliary.T, stated.auxiliary, strict=True):
        if math.isfinite(auxiliary.bound):
            assert ((values >= 0) & (values <= auxiliary.bound * (1 + 1e-6))).all()


BLOCK = np.where(np.arange(256) // 160 == 0, 3e38, 1e30)  # finite, and no sum of it is


@pytest.mark.parametrize(
    ("before", "vector"),
    [
        (fr.rotate(), BLOCK),
        (fr.count_sketch(1, 64), BLOCK),
        (fr.weight_by_examples(), np.full(256, 1e30)),
        (fr.top_k(fraction=1.0), np.where(np.arange(256) == 7, math.nan, 1.0)),
        (fr.chain(), np.where(np.arange(256) == 7, -math.inf, 1.0)),
    ],
    ids=["rotate", "count_sketch", "weight_by_examples", "top_k", "nothing"],
)
def test_what_is_not_finite_where_the_clip_is_becomes_zeros(before, vector):
    vectors = np.stack([vector, np.linspace(-1, 1, 256)]).astype(np.float32)
    auxiliaries = np.tile(np.float32([1e10, 1, 0, 1]), (2, 1))
    out = encoded(fr.chain(before, fr.clip(0.5)), MessageSpec(256, 3, AUXILIARIES), vectors, auxiliaries)
    np.testing.assert_array_equal(out.vector[0], 0.0)
    assert np.linalg.norm(out.vector[1]) == pytest.approx(0.5, rel=1e-5)


def test_whole_numbers_of_what_is_not_finite_are_zeros():
    stage = fr.chain(fr.weight_uniformly(), fr.quantize(8, bound=1.0), fr.secure_sum(16))
    spec = MessageSpec(2, 3, AUXILIARIES[:3])
    vectors = np.float32([[math.nan, 1], [math.inf, 1], [3e38, -3e38]])
    auxiliaries = np.float32([[math.nan, math.nan, math.nan], [math.inf, math.inf, 1], [1, 2.5, 0]])
    out = encoded(stage, spec, vectors, auxiliaries).vector
    levels = (2**16 - 1) // 3
    assert out[:, :2].astype(np.int16).tolist() == [
        [0, 0],
        [0, 0],
        [127, -127],
    ]  # finite is finite, and clamped
    assert out[:2, 2:].tolist() == [[levels, levels, 0]] * 2  # losses that overflowed are as bad as can be
    np.testing.assert_allclose(out[2, 2:], [levels, levels / 2, 0], atol=1)


def test_no_number_of_examples_is_none():
    stage = fr.chain(fr.weight_by_examples(4), fr.clip(1.0))
    auxiliaries = np.float32([[math.nan, 1, 0, 1], [math.inf, 1, 0, 1], [3e38, 1, 0, 1], [2, 1, 0, 1]])
    out = encoded(stage, MessageSpec(1, 4, AUXILIARIES), np.full((4, 1), 0.5, np.float32), auxiliaries)
    assert out.auxiliary[:, 0].tolist() == [0, 0, 1, 0.5]
    assert out.vector[:, 0].tolist() == [0, 0, 0.5, 0.25]


@pytest.mark.parametrize("length", [4097, 1_206_590])
def test_small_terms_are_not_lost_beside_large_ones(length):
    """As in a compiled round, where sums of a million terms in one row would lose some hundredths."""
    place = np.arange(length)
    hard = [np.where(place < k, 1.0, 2.0**-12.6) for k in (1, 64, 4096)]
    hard += [np.where(place % 64 == 0, 1.0, 2.0**-12.6), 2.0 ** (-12 * place / length)]

    def summed(vectors: jax.Array) -> jax.Array:
        def one(i, sums):
            return sums.at[i].set(square(vectors[i]))

        return jax.lax.fori_loop(0, len(hard), one, jnp.zeros(len(hard)))

    vectors = np.stack(hard).astype(np.float32)
    with jax.default_device(core_processors(1)[0]):
        result = np.asarray(jax.jit(summed)(vectors), np.float64)
    exact = (vectors.astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(result, exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fr.clip(1e-30), r"clip norm: given 1e-30; expected a number from 2\^-64 to 2\^64"),
        (lambda: fr.clip(1e30), "Choose another unit"),
        (lambda: fr.weight_by_examples(1e-45), "weight_by_examples bound"),
        (lambda: fr.quantize(8, bound=1e38), "quantize bound"),
        (
            lambda: fr.weight_uniformly().bind(MessageSpec(3, 3, (AUXILIARIES[0], Auxiliary("loss", 1e300)))),
            r"coordinate 'loss': given a bound of 1e\+300; expected 0, or a number from 2\^-64",
        ),
    ],
)
def test_numbers_that_float32_has_no_room_for_are_refused(make, message):
    with pytest.raises(fr.PlanError, match=message):
        make()
