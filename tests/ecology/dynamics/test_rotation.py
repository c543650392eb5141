"""Rotation: closed forms where it is all there is, and seldom called where it is not."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from fairyring.core.errors import EcologyError, StatisticsError
from fairyring.ecology.dynamics.curl import InvasionCurl, invasion_curl
from fairyring.ecology.dynamics.cycles import cyclic_share, cyclic_test
from fairyring.ecology.dynamics.jacobian import antisymmetric_share, learning_jacobian
from fairyring.ecology.dynamics.traits import trait_rotation

ROCK = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
numbers = st.floats(-3, 3).map(lambda x: round(x, 3))


def seldom(p: list[float]) -> None:
    """At the level .05, and not because p is always 1."""
    called = sum(one <= 0.05 for one in p)
    assert called <= 0.05 * len(p) + 3 * math.sqrt(0.05 * 0.95 * len(p))
    assert 0.35 <= np.mean(p) <= 0.65


# Who beats whom


def test_rock_paper_scissors_is_all_cycle_and_a_ranking_none() -> None:
    assert cyclic_share(ROCK).share == pytest.approx(1.0)
    found = cyclic_share(np.subtract.outer([3.0, 1.0, -1.0, -3.0], [3.0, 1.0, -1.0, -3.0]))
    assert found.share == pytest.approx(0.0, abs=1e-25)
    assert found.potentials == pytest.approx((3.0, 1.0, -1.0, -3.0))
    assert (found.p, found.null_share) == (None, None)
    assert cyclic_share(np.ones((4, 4))).share == 0.0


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 6), st.integers(0, 2**32), numbers)
def test_the_share_is_what_cycles_of_three_make_of_it(n: int, seed: int, strength: float) -> None:
    """On the complete graph the curl operator sees it all: cyclic energy = sum over triples of curl^2 / n."""
    rng = np.random.default_rng(seed)
    m = rng.normal(size=(n, n)) + strength * np.subtract.outer(np.arange(n), np.arange(n))
    a = (m - m.T) / 2
    curl = a[:, :, None] + a[None] + np.transpose(a)[:, None, :]  # a_ij + a_jk + a_ki
    triples = (curl**2).sum() / 6
    found = cyclic_share(m)
    assert found.share == pytest.approx(triples / n / ((a**2).sum() / 2))
    assert found.potentials == pytest.approx(a.mean(axis=1))  # the closed form for equal weights
    shift = np.subtract.outer(*[rng.normal(size=n)] * 2)
    kept = cyclic_share(m + shift)
    assert kept.share * ((a + shift) ** 2).sum() == pytest.approx(found.share * (a**2).sum())


def test_weights_count_as_copies() -> None:
    """A triangle: the residual is the circulation shared out by 1/w, so its energy is curl^2 / sum(1/w)."""
    rng = np.random.default_rng(0)
    w = np.array([[0, 2, 5], [2, 0, 1], [5, 1, 0]])
    a = rng.normal(size=(3, 3))
    a -= a.T
    energy = sum(w[i, j] * a[i, j] ** 2 for i, j in ((0, 1), (0, 2), (1, 2)))
    circulation = a[0, 1] + a[1, 2] + a[2, 0]
    expected = circulation**2 / (1 / 2 + 1 / 5 + 1 / 1) / energy
    assert cyclic_share(a, w).share == pytest.approx(expected)
    worlds = [[np.full(w[i, j] + 1, a[i, j]) if i < j else [] for j in range(3)] for i in range(3)]
    assert cyclic_test(worlds, resamples=99).share == pytest.approx(cyclic_share(a, w + 1).share)


@pytest.mark.parametrize("ranking", [0.0, 1.0])
def test_rankings_are_seldom_called_cycles(ranking: float) -> None:
    rng, p, shares, null = np.random.default_rng(1), [], [], []
    s = ranking * np.array([0.0, 1.0, 2.0, 4.0])
    for i in range(100):
        found = cyclic_test(np.subtract.outer(s, s)[..., None] + _sides(rng, 4, 12), seed=i, resamples=199)
        p.append(found.p)
        shares.append(found.share)
        null.append(found.null_share)
    seldom(p)
    if ranking:
        assert np.mean(null) == pytest.approx(np.mean(shares), rel=0.25)


def _sides(rng: np.random.Generator, n: int, replicates: int) -> np.ndarray:
    """Noise of worlds that both sides count alike: uneven between pairs, as win fractions are."""
    noise = rng.normal(size=(n, n, replicates)) * rng.uniform(0.5, 1.5, (n, n, 1))
    upper = np.where(np.triu(np.ones((n, n), bool), 1)[..., None], noise, 0.0)
    return upper - upper.transpose(1, 0, 2)


def test_cycles_among_noise_are_found() -> None:
    rng = np.random.default_rng(2)
    found = [
        cyclic_test(0.6 * ROCK[..., None] + _sides(rng, 3, 20), seed=i, resamples=199).p for i in range(20)
    ]
    assert np.mean(np.array(found) <= 0.05) >= 0.9
    sure = cyclic_test(np.repeat(ROCK[..., None], 5, axis=2), resamples=199)
    assert (sure.share, sure.p) == (pytest.approx(1.0), 1 / 200)
    ranked = np.repeat(np.subtract.outer([0.3, 0.1, 0.7], [0.3, 0.1, 0.7])[..., None], 5, axis=2)
    assert cyclic_test(ranked, resamples=199).p == 1.0


def test_a_world_counts_once_from_whichever_side() -> None:
    rng = np.random.default_rng(3)
    both = _sides(rng, 3, 4) + ROCK[..., None]
    upper = np.where(np.triu(np.ones((3, 3)), 1)[..., None] > 0, both, np.nan)
    assert cyclic_test(both, resamples=99) == cyclic_test(upper, resamples=99)
    other = upper.copy()
    other[2, 0] = [1.0, np.nan, np.nan, 2.0]  # worlds of their own
    means = both.mean(axis=2)
    pooled = (np.nansum(upper[0, 2]) - 3.0) / 6
    a = np.array([[0, means[0, 1], pooled], [0, 0, means[1, 2]], [0, 0, 0]])
    w = np.array([[0, 4, 6], [4, 0, 4], [6, 4, 0]])
    assert cyclic_test(other, resamples=99).share == pytest.approx(cyclic_share(a - a.T, w).share)


# What evolves


def drifting(rng: np.random.Generator, step: np.ndarray, worlds: int, steps: int) -> np.ndarray:
    """x' = step x + noise, begun at rest."""
    x, found = rng.normal(size=(worlds, 2)), []
    for _ in range(steps + 60):
        x = x @ step.T + rng.normal(size=(worlds, 2))
        found.append(x)
    return np.stack(found[60:], axis=1)


def turn(decay: float, omega: float) -> np.ndarray:
    return expm(np.array([[-decay, -omega], [omega, -decay]]))


@pytest.mark.parametrize(("decay", "omega"), [(0.1, 0.2), (0.3, -0.1)])
def test_an_ornstein_uhlenbeck_process_turns_at_its_rate(decay: float, omega: float) -> None:
    """Stationary variance v = 1 / (1 - e^(-2 decay)) a trait; <x(t) x x(t+1)> = 2 v e^(-decay) sin(omega)."""
    x = drifting(np.random.default_rng(4), turn(decay, omega), 24, 2000)
    found = trait_rotation(x)
    expected = math.exp(-decay) * math.sin(omega)
    assert found.mean.estimate == pytest.approx(expected, rel=0.05)
    assert np.mean(found.rate) == pytest.approx(2 * expected / -math.expm1(-2 * decay), rel=0.08)
    assert found.p == 1e-4
    assert np.mean(np.array(found.world_p) <= 0.05) >= 0.9
    assert found.block == 124


def test_a_circle_turns_by_the_sine_of_its_step() -> None:
    t = 2 * np.pi * np.arange(1000) / 50
    found = trait_rotation(np.stack([3 * np.cos(t), 0.2 * np.sin(t)], axis=1)[None])
    assert found.turning[0] == pytest.approx(math.sin(2 * math.pi / 50), rel=1e-3)
    assert found.rate[0] == pytest.approx(0.6 * math.sin(2 * math.pi / 50), rel=1e-3)
    assert found.p == 1.0  # one world proves nothing of worlds
    assert found.world_p[0] == 2 / 2**16


def test_a_hill_with_noise_seldom_turns() -> None:
    """Symmetric coupling and equal noise: detailed balance, however different the two traits' memories."""
    rng, hill = np.random.default_rng(5), np.array([[0.85, 0.1], [0.1, 0.3]])
    x = drifting(rng, hill, 480, 640).reshape(60, 8, 640, 2)
    found = [trait_rotation(one, seed=i, resamples=199) for i, one in enumerate(x)]
    seldom([one.p for one in found])
    seldom([p for one in found for p in one.world_p])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 10), numbers)
def test_time_reversed_turns_the_other_way(seed: int, scale: float, offset: float) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 33, 2)).cumsum(axis=1)
    forth, back = trait_rotation(x, resamples=99), trait_rotation(x[:, ::-1], resamples=99)
    swapped = trait_rotation(x[..., ::-1] * [scale, 2.0] + offset, resamples=99)
    assert back.rate == pytest.approx([-rate for rate in forth.rate], abs=1e-9)
    assert swapped.turning == pytest.approx([-one for one in forth.turning], abs=1e-9)
    assert swapped.rate == pytest.approx([-2 * scale * rate for rate in forth.rate], abs=1e-8)
    assert forth.p == back.p


def test_a_trait_that_stands_still_does_not_turn() -> None:
    x = np.random.default_rng(6).normal(size=(4, 50, 2))
    x[:2, :, 0] = 0.1
    found = trait_rotation(x, resamples=99)
    assert found.turning[:2] == (0.0, 0.0)
    assert found.world_p[:2] == (1.0, 1.0)
    assert all(found.turning[2:])


# Selection


Works = tuple[np.ndarray, np.ndarray]


def along_edges(u: np.ndarray, v: np.ndarray, g: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Works:
    """Works of a field of selection: its component along an edge at the edge's middle, times the length."""
    x, y = np.meshgrid((u[1:] + u[:-1]) / 2, v, indexing="ij")
    first = np.broadcast_to(g(x, y)[0], x.shape) * np.diff(u)[:, None]
    x, y = np.meshgrid(u, (v[1:] + v[:-1]) / 2, indexing="ij")
    return first, np.broadcast_to(g(x, y)[1], x.shape) * np.diff(v)


def test_a_landscape_has_no_curl_on_any_grid() -> None:
    """Any landscape, in units that differ by far, on an uneven grid: exactly none, and it is found."""
    u, v = np.array([0.0, 0.1, 0.5, 0.6]), np.array([10.0, 40.0, 50.0, 90.0, 95.0])
    height = 2 * u[:, None] ** 2 + np.sin(5 * np.outer(u, v)) - u[:, None] ** 5 - 0.01 * v**2 + 2 * v
    found = invasion_curl(np.diff(height, axis=0), np.diff(height, axis=1), u, v)
    assert found.share == pytest.approx(0.0, abs=1e-20)
    assert found.curl == pytest.approx(np.zeros((3, 4)), abs=1e-9)
    assert found.potential == pytest.approx(height - height.mean())
    assert found.p is None


def test_a_rigid_rotation_of_a_square_leaves_what_torsion_leaves() -> None:
    """What of it no saddle imitates is Saint-Venant's torsion constant over the polar moment: .1406 / (1 / 6) = .8435."""
    for points, within in ((7, 0.04), (13, 0.012)):
        u = np.linspace(-1, 1, points)
        found = invasion_curl(*along_edges(u, u, lambda x, y: (-3 * y, 3 * x)), u, u)
        assert found.share == pytest.approx(0.14058 * 6, abs=within)
        assert found.curl == pytest.approx(np.full((points - 1, points - 1), 6.0))
        assert found.mean_curl == pytest.approx(6.0)


@settings(max_examples=25, deadline=None)
@given(numbers, numbers, st.floats(0.01, 100), st.integers(0, 2**32))
def test_curl_is_in_the_traits_units_and_its_share_in_none(
    a: float, b: float, scale: float, seed: int
) -> None:
    u, v, rng = np.linspace(0, 1, 4), np.linspace(2, 3, 5), np.random.default_rng(seed)
    plain = along_edges(u, v, lambda x, y: (a * y, b * x))
    noisy = plain[0] + rng.normal(size=(3, 5)), plain[1] + rng.normal(size=(4, 4))
    found = invasion_curl(*noisy, u, v)
    moved = invasion_curl(*noisy, u * scale, v)  # emission in other units, works as they were
    assert moved.share == pytest.approx(found.share)
    assert moved.mean_curl == pytest.approx(found.mean_curl / scale)
    assert invasion_curl(*plain, u, v).mean_curl == pytest.approx(b - a, abs=1e-9)


def test_noisy_landscapes_seldom_have_curl_and_rotations_mostly() -> None:
    rng, u = np.random.default_rng(7), np.linspace(-1, 1, 5)
    hill = along_edges(u, u, lambda x, y: (2 * x + y, x - y))
    swirl = along_edges(u, u, lambda x, y: (2 * x + y, 4 * x - y))

    def noisy(base: Works, seed: int) -> InvasionCurl:
        works = [one + 0.1 * rng.normal(size=(12, *one.shape)) for one in base]
        return invasion_curl(works[0], works[1], u, u, seed=seed, resamples=99)

    null = [noisy(hill, i) for i in range(60)]
    found = [noisy(swirl, i) for i in range(10)]
    seldom([one.p for one in null if one.p is not None])
    assert sum(one.p is not None and one.p <= 0.05 for one in found) >= 9
    assert np.mean([one.mean_curl_error or 0 for one in null]) == pytest.approx(
        np.std([one.mean_curl for one in null]), rel=0.4
    )


# Learning


def test_matching_pennies_only_turns() -> None:
    """Payoffs (2p - 1)(2q - 1) and its negative, each climbing its own."""

    @jax.jit
    def climb(x: jax.Array) -> jax.Array:
        return jnp.stack([2 * (2 * x[1] - 1), -2 * (2 * x[0] - 1)])

    j = learning_jacobian(climb, jnp.array([0.5, 0.5]))
    assert j.tolist() == [[0.0, 4.0], [-4.0, 0.0]]
    assert antisymmetric_share(j) == 1.0


def test_a_potential_game_only_climbs() -> None:
    payoff = jnp.array([[2.0, -1.0], [0.5, 1.0]])
    together = jax.jit(jax.grad(lambda x: jnp.tanh(x[0]) @ payoff @ jnp.tanh(x[1])))
    j = learning_jacobian(together, jnp.array([[0.3, -0.2], [0.1, 0.9]]))
    assert j.shape == (4, 4)
    assert np.linalg.norm(j) > 0.1
    assert antisymmetric_share(j) < 1e-6  # float32


@pytest.mark.parametrize("penalty", [0.0, 0.5, 2.0])
def test_a_dirac_gan_turns_unless_it_is_held(penalty: float) -> None:
    """Mescheder, Geiger & Nowozin 2018: f(t) = -log(1 + e^-t), f'(0) = 1/2; a zero-centred penalty adds only to S."""

    def play(x: np.ndarray) -> np.ndarray:
        theta, psi = x
        slope = 1 / (1 + math.exp(theta * psi))
        return np.array([-slope * psi, slope * theta - penalty * psi])

    j = learning_jacobian(play, [0.0, 0.0])
    assert j == pytest.approx(np.array([[0.0, -0.5], [0.5, -penalty]]), abs=1e-9)
    turning = math.sqrt(2) / 2
    assert antisymmetric_share(j) == pytest.approx(turning / (turning + penalty))


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_the_share_is_of_orthogonal_parts(n: int, seed: int) -> None:
    j = np.random.default_rng(seed).normal(size=(n, n))
    a, s = np.linalg.norm(j - j.T) / 2, np.linalg.norm(j + j.T) / 2
    share = antisymmetric_share(j)
    assert share == pytest.approx(a / (a + s))
    assert a**2 + s**2 == pytest.approx(np.linalg.norm(j) ** 2)
    q = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(n, n)))[0]
    assert antisymmetric_share(q @ j @ q.T) == pytest.approx(share)
    assert antisymmetric_share(np.zeros((n, n))) == 0.0


def test_differences_agree_with_differentiation() -> None:
    at = np.array([[0.3, -1.2], [2.0, 0.7]])
    exact = learning_jacobian(jax.jit(lambda x: jnp.sin(x) @ x), jnp.asarray(at))
    assert learning_jacobian(lambda x: np.sin(x) @ x, at) == pytest.approx(exact, abs=1e-5)


def test_refusals() -> None:
    u = np.arange(3.0)
    for call, named in [
        (lambda: cyclic_share(np.ones((2, 2))), "cycle"),
        (lambda: cyclic_share(np.ones((3, 4))), "populations"),
        (lambda: cyclic_share(ROCK, np.eye(3)), "weights"),
        (lambda: cyclic_test(ROCK[..., None]), "2 or more"),
        (lambda: cyclic_test([[[1.0]] * 3] * 2), "populations"),
        (lambda: trait_rotation(np.ones((4, 50, 3))), "two traits"),
        (lambda: trait_rotation(np.ones((4, 32, 2))), "blocks"),
        (lambda: trait_rotation(np.ones((4, 90, 2)), blocks=5), "blocks"),
        (lambda: invasion_curl(np.ones((2, 3)), np.ones((3, 2)), u, u[::-1]), "response"),
        (lambda: invasion_curl(np.ones((3, 3)), np.ones((3, 2)), u, u), "works"),
        (lambda: invasion_curl(np.ones((1, 2, 3)), np.ones((1, 3, 2)), u, u), "2 replicates"),
        (lambda: antisymmetric_share(np.ones((2, 3))), "jacobian"),
        (lambda: learning_jacobian(lambda x: x[:1], np.ones(2)), "update"),
        (lambda: learning_jacobian(lambda x: x[:1], jnp.ones(2)), "update"),
    ]:
        with pytest.raises((EcologyError, StatisticsError), match=named):
            call()
