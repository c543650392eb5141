"""What is particular to one stage."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import random as raw_random
from scipy.linalg import hadamard

from fairyring.aggregation import (
    Auxiliary,
    Message,
    MessageSpec,
    chain,
    clip,
    complete,
    count_sketch,
    quantize,
    random_k,
    rotate,
    secure_sum,
    weight_by_examples,
    weight_uniformly,
)
from fairyring.core.words import below, signs, threefry

KEY, ROUND = jax.random.key(1), jax.random.key(2)
AUXILIARIES = (Auxiliary("examples", math.inf), Auxiliary("accuracy", 1.0))


def auxiliary(*values: float) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def test_our_cipher_is_jax_s_cipher() -> None:
    count = jnp.arange(64, dtype=jnp.uint32)
    words = raw_random.threefry_2x32(
        jax.random.key_data(KEY), jnp.concatenate([count, jnp.zeros_like(count)])
    )
    np.testing.assert_array_equal(threefry(KEY, count), words[:64])


def test_draws_below_a_limit_are_the_high_word_of_the_product() -> None:
    limits = np.asarray([1, 2, 3, 1000, 65535, 65536, 65537, 2**31 - 1], np.int32)
    words = np.asarray(threefry(KEY, jnp.arange(8, dtype=jnp.uint32))).astype(object)
    got = np.asarray(below(KEY, jnp.asarray(limits)))
    np.testing.assert_array_equal(got, [w * int(n) >> 32 for w, n in zip(words, limits, strict=True)])


def test_signs_are_fair_and_independent() -> None:
    s = np.asarray(signs(KEY, 100_001))
    assert set(np.unique(s)) == {-1.0, 1.0}
    assert abs(s.mean()) < 5 / math.sqrt(len(s))
    for lag in (1, 2, 31, 32, 33):
        assert abs((s[lag:] * s[:-lag]).mean()) < 5 / math.sqrt(len(s))


@pytest.mark.parametrize("block", [2, 8, 64, 512])
def test_rotation_is_a_hadamard_matrix_up_to_the_order_of_rows(block: int) -> None:
    bound = rotate(block=block).bind(MessageSpec(block, 1, AUXILIARIES))
    rows = jax.jit(jax.vmap(lambda x: bound.encode(Message(x, auxiliary(1, 1)), KEY, ROUND).vector))(
        jnp.eye(block)
    )
    turned = np.asarray(rows).T * np.asarray(signs(ROUND, block)) * math.sqrt(block)
    wanted = hadamard(block)
    np.testing.assert_allclose(sorted(turned.round().tolist()), sorted(wanted.tolist()))
    np.testing.assert_allclose(turned, turned.round(), atol=1e-5)


def test_rotation_keeps_norms_and_states_a_bound_that_few_rounds_break() -> None:
    spec = MessageSpec(1000, 1, AUXILIARIES, l2=1.0)
    bound = rotate(block=256, failure=0.05).bind(spec)
    assert bound.spec.linf_failure == 0.05
    spike = Message(jnp.zeros(1000).at[:300].set(1 / math.sqrt(300)), auxiliary(1, 1))
    turned = jax.jit(jax.vmap(lambda key: bound.encode(spike, KEY, key).vector))(jax.random.split(ROUND, 400))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1.0, rtol=1e-5)
    broken = (np.abs(turned).max(axis=1) > bound.spec.linf).mean()
    assert broken <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / 400)
    assert rotate(block=256, failure=0).bind(spec).spec.linf == 1.0


@pytest.mark.parametrize("dimension", [1, 2, 5, 63, 64, 65, 1000, 1100, 4096, 50_000, 1_206_590])
def test_the_default_block_pads_little(dimension: int) -> None:
    padded = rotate().bind(MessageSpec(dimension, 1, AUXILIARIES)).spec.dimension
    assert 0 <= padded - dimension <= max(dimension // 16, 63)


def test_clip_survives_the_largest_and_smallest_floats() -> None:
    bound = clip(2.0).bind(MessageSpec(3, 1, AUXILIARIES))
    for size in (2e-38, 1e-20, 1.0, 1e25, 3e38):
        out = bound.encode(Message(jnp.full(3, size, jnp.float32), auxiliary(1, 1)), KEY, ROUND).vector
        np.testing.assert_allclose(out, min(size, 2 / math.sqrt(3)), rtol=1e-5)
    zero = bound.encode(Message(jnp.zeros(3), auxiliary(1, 1)), KEY, ROUND)
    np.testing.assert_array_equal(zero.vector, 0.0)


def test_the_norm_of_a_long_vector_is_exact_enough() -> None:
    x = np.random.default_rng(0).normal(size=1_200_000).astype(np.float32)
    out = (
        clip(0.5)
        .bind(MessageSpec(len(x), 1, AUXILIARIES))
        .encode(Message(jnp.asarray(x), auxiliary(1, 1)), KEY, ROUND)
    )
    assert np.linalg.norm(np.asarray(out.vector, np.float64)) == pytest.approx(0.5, rel=1e-5)


def test_nobody_who_counts_gives_zero_and_not_nan() -> None:
    for stage in (weight_by_examples(), weight_by_examples(bound=5.0)):
        bound = stage.bind(MessageSpec(3, 1, AUXILIARIES))
        sent = bound.encode(Message(jnp.ones(3), auxiliary(0, 0.5)), KEY, ROUND)
        out = bound.decode(sent, ROUND)
        np.testing.assert_array_equal(out.vector, 0.0)
        np.testing.assert_array_equal(out.auxiliary, 0.0)


def test_the_order_of_clip_and_weight_decides_what_is_bounded() -> None:
    spec = MessageSpec(4, 10, AUXILIARIES)
    first = chain(weight_by_examples(), clip(0.5)).bind(spec).spec
    assert first.l2 == 0.5
    assert chain(clip(0.5), weight_by_examples(bound=50)).bind(spec).spec.l2 == 0.5
    assert chain(clip(0.5), weight_by_examples()).bind(spec).spec.l2 is None


def test_complete_counts_each_client_once_unless_told_otherwise() -> None:
    assert complete(clip(1.0)).parts[0].name == "weight_uniformly()"
    weighted = chain(clip(1.0), weight_by_examples())
    assert [part.name for part in complete(weighted).parts] == ["clip(1)", "weight_by_examples()"]
    assert complete(weight_uniformly()).weighting


def test_a_chain_in_a_chain_is_its_stages() -> None:
    spec = MessageSpec(50, 4, AUXILIARIES)
    sent = Message(jnp.linspace(-1, 1, 50), auxiliary(3, 0.5))
    flat = chain(weight_uniformly(), clip(0.5), rotate(), quantize(4))
    nested = chain(chain(), weight_uniformly(), chain(chain(clip(0.5)), rotate()), quantize(4))
    assert flat.parts == flat.parts
    assert [p.name for p in nested.parts] == [p.name for p in flat.parts]
    one, other = (jax.jit(stage.bind(spec).encode)(sent, KEY, ROUND) for stage in (flat, nested))
    np.testing.assert_array_equal(one.vector, other.vector)


def test_stages_of_one_chain_draw_different_signs() -> None:
    twice = chain(rotate(block=64), rotate(block=64)).bind(MessageSpec(64, 1, AUXILIARIES))
    x = jnp.arange(64.0)
    out = twice.encode(Message(x, auxiliary(1, 1)), KEY, ROUND).vector
    assert float(jnp.abs(jnp.abs(out) - x).max()) > 1  # the same signs twice would give back x, up to signs


def test_random_k_takes_one_coordinate_of_each_stratum_evenly() -> None:
    bound = random_k(4).bind(MessageSpec(10, 1, AUXILIARIES))  # strata of 3, 3, 2, 2
    sent = Message(jnp.arange(10.0), auxiliary(1, 1))
    places = jax.jit(jax.vmap(lambda key: bound.encode(sent, KEY, key).vector))
    got = np.asarray(places(jax.random.split(ROUND, 3000))).astype(int)
    for column, stratum in enumerate(([0, 1, 2], [3, 4, 5], [6, 7], [8, 9])):
        counts = np.bincount(got[:, column], minlength=10)
        assert counts.sum() == counts[stratum].sum()
        chi = ((counts[stratum] - 3000 / len(stratum)) ** 2).sum() / (3000 / len(stratum))
        assert chi < 20


def test_random_k_of_everything_is_everything() -> None:
    bound = random_k(fraction=1.0).bind(MessageSpec(10, 1, AUXILIARIES))
    sent = bound.encode(Message(jnp.arange(10.0), auxiliary(1, 1)), KEY, ROUND)
    np.testing.assert_array_equal(bound.decode(sent, ROUND).vector, np.arange(10.0))


def test_a_sketch_keeps_a_heavy_coordinate_and_the_median_keeps_it_better() -> None:
    x = np.random.default_rng(0).normal(size=2000) * 0.01
    x[77] = 1000.0
    x[1500] = -800.0
    errors = {}
    for estimate in ("mean", "median"):
        bound = count_sketch(7, 100, estimate=estimate).bind(MessageSpec(2000, 1, AUXILIARIES))
        sent = jax.jit(bound.encode)(Message(jnp.asarray(x, jnp.float32), auxiliary(1, 1)), KEY, ROUND)
        errors[estimate] = np.abs(np.asarray(jax.jit(bound.decode)(sent, ROUND).vector) - x)
    assert errors["median"][[77, 1500]].max() < 10
    assert errors["median"].max() < errors["mean"].max() / 5


@pytest.mark.parametrize("modulus", [16, 21, 24, 32])
def test_the_extreme_sum_of_a_whole_cohort_is_exact(modulus: int) -> None:
    levels = 127
    cohort = ((1 << (modulus - 1)) - 1) // levels if modulus < 24 else 1000
    spec = MessageSpec(
        4, cohort, (Auxiliary("weight", 1.0), Auxiliary("m", 3.0)), linf=127.0, bits=8, integer=True
    )
    bound = secure_sum(modulus).bind(spec)
    vector = jnp.asarray([levels, -levels, 0, 1], jnp.int32)
    sent = np.asarray(bound.encode(Message(vector, auxiliary(1.0, 3.0)), KEY, ROUND).vector)
    total = (sent.astype(object) * cohort) % (1 << 32)  # what wrapping uint32 additions give
    wanted = np.asarray([levels, -levels, 0, 1]) * cohort
    for seen in (total, total % (1 << modulus)):
        summed = Message(jnp.asarray(seen.astype(np.uint32)), jnp.zeros((0,), jnp.float32))
        out = bound.decode(summed, ROUND)
        np.testing.assert_array_equal(out.vector, wanted)
        np.testing.assert_allclose(out.auxiliary, [cohort, 3.0 * cohort], rtol=1e-6)


def test_a_metric_beyond_its_bound_does_not_spill_over() -> None:
    spec = MessageSpec(2, 3, (Auxiliary("weight", 1.0), Auxiliary("m", 1.0)), linf=7.0, bits=4, integer=True)
    bound = secure_sum(16).bind(spec)
    sent = [
        bound.encode(Message(jnp.zeros(2, jnp.int32), auxiliary(1.0, m)), KEY, ROUND).vector
        for m in (1e9, -5.0, 1.0)
    ]
    out = bound.decode(Message(sum(sent[1:], sent[0]), jnp.zeros((0,), jnp.float32)), ROUND)
    np.testing.assert_allclose(out.auxiliary, [3.0, 2.0], rtol=1e-4)
    np.testing.assert_array_equal(out.vector, 0)


def test_quantised_zeros_stay_zero_and_ends_stay_ends() -> None:
    bound = quantize(bits=16, bound=1.0).bind(MessageSpec(4, 1, AUXILIARIES))
    for seed in range(20):
        sent = bound.encode(
            Message(jnp.asarray([0.0, 1.0, -1.0, 50.0]), auxiliary(1, 1)), jax.random.key(seed), ROUND
        )
        np.testing.assert_array_equal(sent.vector, [0, 32767, -32767, 32767])
