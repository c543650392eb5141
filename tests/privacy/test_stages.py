"""Noise stages: what one client can change is never more than what was accounted for."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.aggregation.contract import Auxiliary, BoundStage, Message, MessageSpec, Stage
from fairyring.core.errors import PlanError
from fairyring.privacy import _grid, stages
from fairyring.privacy._grid import TAIL, Grid
from tests.aggregation.extremes import any_auxiliaries, any_vectors

VECTORS = 96
LARGE = float(np.float32(1e38))
TINY = float(np.finfo(np.float32).tiny)


class Case(NamedTuple):
    """A chain and what it is bound to."""

    dimension: int = 40
    cohort: int = 20
    bits: int | None = None
    rotated: bool = False
    weight: float | None = None  # weight_by_examples(bound), or uniform
    auxiliaries: tuple[float, ...] = (5.0, 1.0)
    mechanism: str = "gaussian"
    multiplier: float = 1.0
    clip: float = 1.0
    public_count: bool = True
    before: str | None = None  # what stands before the clip

    def stage(self) -> Stage:
        noise = (
            fr.gaussian_noise(self.multiplier)
            if self.mechanism == "gaussian"
            else fr.correlated_noise(self.multiplier, bands=8)
            if self.mechanism == "correlated"
            else fr.distributed_noise(self.mechanism, self.multiplier)
        )
        weighting = fr.weight_uniformly() if self.weight is None else fr.weight_by_examples(bound=self.weight)
        before = {
            "rotate": fr.rotate(),
            "count_sketch": fr.count_sketch(2, 1 + self.dimension // 2),
            "random_k": fr.random_k(fraction=0.5),
        }
        first = [before[self.before]] if self.before else []
        parts = [*first, fr.clip(self.clip), weighting, *([fr.rotate()] if self.rotated else []), noise]
        return fr.chain(*parts, *([fr.secure_sum(self.bits)] if self.bits else []))

    def spec(self) -> MessageSpec:
        auxiliaries = (
            Auxiliary("examples", math.inf),
            *(Auxiliary(f"m{i}", bound) for i, bound in enumerate(self.auxiliaries)),
        )
        honest = max(1, self.cohort // 2)
        return MessageSpec(
            self.dimension, self.cohort, auxiliaries, honest=honest, public_count=self.public_count
        )


COARSE = Case(bits=16, dimension=300, cohort=100, multiplier=1.3)


class Encoder(NamedTuple):
    case: Case
    bound: BoundStage

    @property
    def noise(self):
        result = self.bound.spec.noise
        assert result is not None
        return result

    def encode(self, vectors: np.ndarray, auxiliaries: np.ndarray, seed: int = 0) -> np.ndarray:
        """Encoded messages of clients with keys of their own, as signed whole numbers: int64 `[n, length]`."""
        keys = jax.random.split(jax.random.key(seed), len(vectors))
        result = np.asarray(
            _encode(self.case, vectors.astype(np.float32), auxiliaries.astype(np.float32), keys)
        )
        bits = self.case.bits or 32
        wide = result.astype(np.int64) & ((1 << bits) - 1)
        return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide)

    def decode(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the server makes of a sum of whole numbers: the mean, and the auxiliary values."""
        kind = np.uint32 if self.case.bits else np.int32
        wrapped = (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        message = Message(jnp.asarray(wrapped.view(kind)), jnp.zeros((0,), jnp.float32))
        mean = jax.jit(self.bound.decode)(message, jax.random.key(99))
        return np.asarray(mean.vector, np.float64), np.asarray(mean.auxiliary, np.float64)


@lru_cache(maxsize=64)
def encoder(case: Case) -> Encoder:
    return Encoder(case, case.stage().bind(case.spec()))


@lru_cache(maxsize=64)
def _program(case: Case):
    encode = encoder(case).bound.encode

    def one(vector, auxiliary, key):
        return encode(Message(vector, auxiliary), key, jax.random.key(99)).vector

    return jax.jit(jax.vmap(one))


def _encode(case: Case, vectors: np.ndarray, auxiliaries: np.ndarray, keys: jax.Array) -> jax.Array:
    return _program(case)(vectors, auxiliaries, keys)


def adversarial(case: Case, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors `[VECTORS, dimension]` and what travels beside them `[VECTORS, 1 + metrics]`, none of them in good faith."""
    dice = np.random.default_rng(seed)
    shape = (VECTORS, case.dimension)
    direction = dice.normal(size=shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    sizes = 10.0 ** dice.uniform(-40, 38, size=(VECTORS, 1))
    vectors = direction * np.minimum(sizes, LARGE)
    vectors[::6] = direction[::6] * case.clip * dice.uniform(0.999999, 1.000001)
    vectors[1::6] = dice.choice([-1, 1], shape)[1::6] * case.clip / math.sqrt(case.dimension)
    alone = np.zeros(shape)
    alone[np.arange(VECTORS), dice.integers(0, case.dimension, VECTORS)] = dice.choice(
        [LARGE, case.clip, TINY]
    )
    vectors[2::6] = alone[2::6]
    # Half a step in each coordinate, where rounding can lengthen a vector most.
    half = (np.floor(direction * case.clip * scale * 0.9) + 0.5) / scale
    vectors[3::6] = half[3::6]
    vectors[4::6] = dice.choice([0.5, 1e-6, 0.9999], size=(VECTORS, 1))[4::6] / scale
    extremes = np.array([-LARGE, -1.0, 0.0, TINY, 0.4999, 0.5, 1.0, 1e7, LARGE])
    auxiliaries = dice.choice(extremes, size=(VECTORS, 1 + len(case.auxiliaries)))
    bounds = np.array([1e7 if case.weight is None else case.weight, *case.auxiliaries])
    inside = dice.uniform(0, 1, auxiliaries.shape) * bounds
    auxiliaries = np.where(dice.random(auxiliaries.shape) < 0.5, auxiliaries, inside)
    auxiliaries[::5] = bounds  # everything as large as it may be
    auxiliaries[1::5, 1:] = 0.0  # or as small, at full weight: as far from the middle
    auxiliaries[1::5, 0] = LARGE
    vectors = np.clip(vectors, -LARGE, LARGE).astype(np.float32)
    # And what overflows on the way, or is no number.
    count = VECTORS // 2
    return (
        np.concatenate([vectors, any_vectors(dice, count, case.dimension)]),
        np.concatenate(
            [auxiliaries.astype(np.float32), any_auxiliaries(dice, count, 1 + len(case.auxiliaries))]
        ),
    )


def check_norms(case: Case, seed: int) -> None:
    built = encoder(case)
    noise = built.noise
    messages = built.encode(*adversarial(case, noise.scale, seed), seed)
    room = 2 ** ((case.bits or 32) - 1) - 1
    surplus = math.sqrt(case.cohort / noise.shares) if noise.shares else 1.0
    for message in messages.tolist():
        noisy, clear = message[: noise.coordinates], message[noise.coordinates :]
        assert sum(x * x for x in noisy) <= noise.l2**2
        assert sum(map(abs, noisy)) <= noise.l1
        # The same vector from everybody, and noise of six standard deviations on it.
        assert case.cohort * max(map(abs, message)) + TAIL * noise.sigma * surplus <= room
        assert clear == ([1] if case.weight is None and case.public_count else [])


def has_room(case: Case) -> bool:
    """Whether some grid has room for so many clients and so much noise."""
    try:
        encoder(case)
    except PlanError as refused:
        if "larger modulus_bits" in refused.do:
            return False
        raise
    return True


cases = st.builds(
    Case,
    dimension=st.integers(1, 300),
    cohort=st.sampled_from([1, 3, 20, 100, 1000]),
    bits=st.one_of(st.none(), st.integers(16, 32)),
    rotated=st.booleans(),
    weight=st.sampled_from([None, 0.5, 6.0, 1e6]),
    auxiliaries=st.lists(st.sampled_from([0.0, 1.0, 5.0, 100.0, 1e-3]), max_size=4).map(tuple),
    mechanism=st.sampled_from(["gaussian", "correlated", "skellam", "discrete_gaussian"]),
    multiplier=st.floats(0.3, 10.0).map(lambda z: round(z, 3)),
    clip=st.sampled_from([1e-3, 0.5, 1.0, 30.0]),
    public_count=st.booleans(),
    before=st.sampled_from([None, "rotate", "count_sketch", "random_k"]),
)


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(bits=16, mechanism="skellam", rotated=True, dimension=300, multiplier=0.7),
        Case(bits=16, dimension=300, cohort=100, weight=6.0),
        Case(bits=20, dimension=1, cohort=3, auxiliaries=(0.0, 0.0)),
        Case(bits=32, mechanism="discrete_gaussian", dimension=64, auxiliaries=()),
        Case(mechanism="correlated", cohort=1000, weight=0.5, public_count=False),
        Case(dimension=300, before="rotate"),
        Case(bits=16, dimension=300, before="count_sketch", mechanism="skellam", multiplier=0.7),
    ],
    ids=[
        "plain",
        "coarse and rotated",
        "coarse",
        "one number",
        "finest",
        "correlated",
        "overflowing",
        "and coarse",
    ],
)
def test_a_message_is_within_its_norms_whatever_the_client_sends(case):
    for seed in range(2):
        check_norms(case, seed)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases, seed=st.integers(0, 2**31))
def test_no_chain_lets_a_message_out_of_its_norms(case, seed):
    if has_room(case):
        check_norms(case, seed)


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases, seed=st.integers(0, 2**31))
def test_no_chain_lets_a_message_out_of_its_norms_at_length(case, seed):
    if has_room(case):
        check_norms(case, seed)


@pytest.fixture
def recompiled():
    """Nothing compiled before or in a test is used in or after it."""
    encoder.cache_clear()
    _program.cache_clear()
    yield
    encoder.cache_clear()
    _program.cache_clear()


def test_rounding_that_is_not_tried_again_would_break_the_norm(monkeypatch, recompiled):
    """The check above can fail: stochastic rounding without its second thoughts does."""
    careful = Grid.rounded
    monkeypatch.setattr(Grid, "rounded", lambda self, *given: careful(replace(self, norm=1e6), *given))
    with pytest.raises(AssertionError):
        check_norms(COARSE, 0)


def test_rounding_that_never_comes_within_the_norm_ends_in_truncation(monkeypatch, recompiled):
    """Of 64 attempts one succeeds but for once in 10^14; after a single one the norm holds all the same."""
    monkeypatch.setattr(_grid, "TRIES", 1)
    check_norms(COARSE, 0)


def test_a_vector_that_no_clip_left_behind_becomes_zeros():
    """The promise does not rest on what came before the grid."""
    grid = grid_of(Case(clip=0.5))
    for length, kept in ((0.5, True), (0.5001, False), (3e38, False), (math.inf, False), (math.nan, False)):
        vector = jnp.zeros(40).at[3].set(length)
        rounded = np.asarray(grid.rounded(vector, jax.random.key(0)))
        assert bool(rounded.any()) is kept
        assert not rounded[:3].any()


def test_whole_numbers_end_where_they_were_said_to():
    """Where float32 has no such number, too: with next to no noise a grid is as fine as 32 bits are."""
    built = encoder(Case(multiplier=1e-6, cohort=2, dimension=1))
    grid = grid_of(built.case)
    assert int(np.float32(grid.amplitude)) > grid.amplitude
    auxiliaries = built.encode(np.zeros((2, 1)), np.array([[1.0, 5.0, 1.0], [1.0, 0.0, 0.0]]))[
        :, 1 : 1 + grid.auxiliaries
    ]
    assert grid.amplitude - 16 <= abs(auxiliaries).min() <= abs(auxiliaries).max() <= grid.amplitude


def test_side_values_beyond_their_range_are_cut_off():
    grid = grid_of(Case())
    values = jnp.array([0.0, 1e30, -3.0])
    kept = np.asarray(grid.rounded_auxiliaries(values, jax.random.key(0))).reshape(
        grid.auxiliaries, grid.copies
    )
    assert kept.tolist() == [[grid.amplitude] * grid.copies, [-grid.amplitude] * grid.copies]


# -- what comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        Case(cohort=30),
        Case(cohort=30, weight=6.0),
        Case(cohort=30, bits=24, rotated=True, weight=6.0, mechanism="skellam"),
        Case(cohort=30, bits=18, auxiliaries=(5.0, 0.0, 1.0)),
        Case(cohort=30, bits=20, public_count=False, mechanism="discrete_gaussian"),
        Case(cohort=30, mechanism="correlated", clip=0.01),
    ],
    ids=["uniform", "weighted", "secure", "coarse", "secret count", "correlated"],
)
def test_the_sum_decodes_to_the_weighted_mean(case):
    built, dice = encoder(case), np.random.default_rng(5)
    n = case.cohort
    vectors = dice.normal(size=(n, case.dimension)) * case.clip * dice.uniform(0.01, 1, (n, 1)) / 4
    auxiliaries = np.column_stack(
        [dice.integers(1, 10, n), *(dice.uniform(0, b, n) for b in case.auxiliaries)]
    )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    clipped = vectors * np.minimum(1, case.clip / norms)
    weights = np.ones(n) if case.weight is None else np.minimum(auxiliaries[:, 0], case.weight) / case.weight
    mean = weights @ clipped / weights.sum()
    means = weights @ auxiliaries[:, 1:] / weights.sum()
    result, auxiliary = built.decode(built.encode(vectors, auxiliaries).sum(axis=0))

    grid = grid_of(case)
    step = (
        0.0 if grid.counts else n / (grid.amplitude * math.sqrt(grid.copies))
    )  # of an auxiliary sum, at most
    assert auxiliary[0] == pytest.approx(weights.sum(), abs=step + 1e-4)
    if grid.counts:
        assert auxiliary[0] == n
    # Each client's rounding is off by less than a step; a rotation spreads that over a block.
    spread = math.sqrt(grid.dimension) if case.rotated else 1.0
    error = n * spread / grid.scale / weights.sum() + 2 * step / weights.sum() * case.clip
    assert np.abs(result - mean).max() <= error + 1e-5 * case.clip
    noisy = n / (grid.amplitude * math.sqrt(grid.copies))
    for delivered, exact, bound in zip(auxiliary[1:], means, case.auxiliaries, strict=True):
        assert delivered == pytest.approx(exact, abs=2 * noisy * bound / weights.sum() + 1e-4 * bound)


def grid_of(case: Case) -> Grid:
    """The grid a case's noise stage chose."""
    result = []
    real = _grid.fit

    def spy(*arguments):
        result.append(real(*arguments))
        return result[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "fit", spy)
        case.stage().bind(case.spec())
    return result[-1]


def test_rounding_is_right_on_average_where_the_grid_is_coarse():
    case = Case(bits=16, dimension=50, cohort=400, multiplier=2.0)
    built = encoder(case)
    grid = grid_of(case)
    assert not grid.fine
    assert grid.scale < 100
    dice = np.random.default_rng(3)
    vector = dice.normal(size=50)
    vector *= 0.5 / np.linalg.norm(vector)
    n = 20_000
    messages = built.encode(np.tile(vector, (n, 1)), np.tile([1.0, 1.7, 0.3], (n, 1)))
    exact = vector * grid.scale
    share = exact - np.floor(exact)
    deviations = (messages[:, :50].mean(axis=0) - exact) / np.sqrt(np.maximum(share * (1 - share), 1e-3) / n)
    assert (deviations**2).sum() < 105  # of 50 squares of standard normals: once in 10^5
    # Every copy of an auxiliary value is rounded by itself.
    copies = messages[:, 50:-1].reshape(n, grid.auxiliaries, grid.copies)
    for place, value in enumerate((2 * 1.7 / 5 - 1, 2 * 0.3 - 1)):
        exact = value * grid.amplitude
        share = exact - math.floor(exact)
        sigma = math.sqrt(max(share * (1 - share), 1e-3) / (n * grid.copies))
        assert abs(copies[:, place].mean() - exact) < 5 * sigma


def test_truncation_never_lengthens_and_loses_less_than_a_step():
    case = Case(dimension=30)
    built = encoder(case)
    assert grid_of(case).fine
    vectors = np.random.default_rng(1).normal(size=(50, 30)) / 10
    rounded = built.encode(vectors, np.ones((50, 3)))[:, :30]
    exact = vectors * built.noise.scale
    assert (np.abs(rounded) <= np.abs(exact) * (1 + 1e-6)).all()
    assert (np.abs(rounded - exact) <= 1 + 1e-6 * np.abs(exact)).all()


def test_the_number_of_clients_travels_in_the_clear_only_where_it_is_no_secret():
    for weight, public_count, clear in ((None, True, 1), (None, False, 0), (6.0, True, 0), (6.0, False, 0)):
        spec = encoder(Case(weight=weight, public_count=public_count)).bound.spec
        assert spec.noise is not None
        assert spec.dimension - spec.noise.coordinates == clear


def test_the_finest_grid_with_room_is_found():
    for bits in (16, 18, 24):
        case = Case(bits=bits, cohort=50, dimension=200)
        spec = case.spec().replace(
            l2=1.0,
            linf=1.0,
            uniform=True,
            sum_bits=bits,
            auxiliary=(Auxiliary("weight", 1.0), Auxiliary("m0", 5.0)),
        )
        request = fr.gaussian_noise(1.0).noise
        assert request is not None
        grid = _grid.fit("a stage", spec, request, 0, 0.05)
        room = float(2 ** (bits - 1) - 1)
        assert _grid._grid(spec, grid.scale, 1.0, 1.0, room, 0.05) is not None
        assert _grid._grid(spec, grid.scale * 1.01, 1.0, 1.0, room, 0.05) is None


# -- what is refused ------------------------------------------------------------------------------------------


NOISE = fr.gaussian_noise(1.0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((fr.weight_uniformly(), NOISE), r"updates of any length.*Put clip\(norm\) before the noise"),
        ((fr.clip(1.0), fr.weight_by_examples(), NOISE), "updates of any length.*weight_by_examples a bound"),
        (
            (fr.weight_by_examples(), fr.clip(1.0), NOISE),
            r"'weight'.*no bound.*weight_by_examples\(bound=...\)",
        ),
        ((fr.weight_uniformly(), fr.clip(1.0), NOISE, fr.clip(1.0)), "Move clip.1. before the noise"),
        ((fr.weight_uniformly(), fr.clip(1.0), NOISE, fr.rotate()), "Move rotate.. before the noise"),
        ((fr.weight_uniformly(), fr.clip(1.0), NOISE, fr.quantize()), "Move quantize.* before the noise"),
        (
            (fr.weight_uniformly(), fr.clip(1.0), fr.quantize(), NOISE),
            "noise.* after quantize: .*rounds it itself.*Leave quantize out",
        ),
        (
            (fr.weight_uniformly(), fr.clip(1.0), NOISE, fr.secure_sum(16)),
            "grid of at least two steps.*larger modulus_bits",
        ),
        (
            (fr.weight_uniformly(), fr.clip(1.0), fr.gaussian_noise()),
            "no noise multiplier.*Give multiplier= ",
        ),
        (
            (fr.weight_uniformly(), fr.clip(1.0), fr.correlated_noise(1.0)),
            "no number of bands.*and bands=",
        ),
        (
            (fr.clip(1.0), fr.weight_uniformly(), fr.secure_sum(), NOISE),
            "Move gaussian_noise.*before secure_sum|Add quantize",
        ),
    ],
)
def test_chains_that_cannot_work(parts, message):
    spec = MessageSpec(100, 20_000, (Auxiliary("examples", math.inf), Auxiliary("loss", 5.0)))
    with pytest.raises(PlanError, match=message):
        fr.chain(*parts).bind(spec)


def test_a_metric_without_a_bound_is_named():
    spec = MessageSpec(10, 20, (Auxiliary("examples", math.inf), Auxiliary("perplexity", math.inf)))
    with pytest.raises(PlanError, match=r"'perplexity'.*no bound"):
        fr.chain(fr.clip(1.0), fr.weight_uniformly(), NOISE).bind(spec)
