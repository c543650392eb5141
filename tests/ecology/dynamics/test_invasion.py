"""Invasion fitness: the tables are what they say, costs show in the gradient, and what turns is told from what does not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.curl import invasion_curl
from fairyring.ecology.dynamics.invasion import invasion_fitness, trait_table, works
from fairyring.ecology.world.policies import tables
from fairyring.ecology.world.settings import World2

pytestmark = pytest.mark.optimised

WORLD = World2(
    width=32,
    capacity=128,
    sources=2,
    food_influx=2.0,
    minimum=8,
    founders=80,
    policy=tables(),
)


def test_tables_have_the_probabilities_they_promise() -> None:
    for emission, response in ((0.0, 0.0), (1.5, -2.0)):
        table = trait_table(WORLD, emission, response).reshape(3, 3, 2, 4).astype(float)
        odds = np.exp(WORLD.beta * table)
        p = odds / odds.sum(-1, keepdims=True)
        tumble, emit = p[..., 1] + p[..., 3], p[..., 2] + p[..., 3]
        np.testing.assert_allclose(p[..., 3], tumble * emit, rtol=1e-5)  # chosen independently
        np.testing.assert_allclose(tumble[0, :, 0], [0.5, 0.1, 0.02], rtol=1e-5)
        logit = np.log(tumble / (1 - tumble))
        np.testing.assert_allclose(logit[:, :, 1] - logit[:, :, 0], response, atol=1e-5)
        np.testing.assert_allclose(logit[2] - logit[1], 1.0, atol=1e-5)
        heard = np.log(emit / (1 - emit))
        np.testing.assert_allclose(heard[:, 0, 0], np.array([-4, -2, 0]) + emission, atol=1e-5)
        assert np.ptp(heard, axis=(1, 2)) == pytest.approx(0.0, abs=1e-5)


def test_what_costs_and_gives_nothing_is_selected_against() -> None:
    made = invasion_fitness(
        WORLD, (-2.0, 0.0), (-1.0, 1.0), founders=80, steps=300, replicates=6, rarity=0.3, resamples=199
    )
    assert made.gradients.shape == (6, 2, 2, 2)
    assert made.growth.shape == (6, 2, 2, 4)
    assert (made.gradients[..., 0].mean(0) < 0).all()  # those who emit more pay, wherever they are
    # A mutant is a neighbour on the grid, two log odds away.
    np.testing.assert_allclose(made.gradients[..., 0], (made.growth[..., 0] - made.growth[..., 1]) / 4)
    assert (made.population[0] > 5).all()
    assert made.gone.shape == (2, 2)
    assert 0 <= made.gone.min() <= made.gone.max() <= 1
    assert made.curl.p is not None
    assert 0 <= made.curl.share <= 1
    again = invasion_curl(*works(made.growth), made.emission, made.response, resamples=199)
    assert again.p == made.curl.p


EMISSION, RESPONSE = np.arange(-3.0, 2.0), np.arange(-2.0, 3.0)
Height = Callable[[np.ndarray, np.ndarray], np.ndarray]


def grown(rng: np.random.Generator, height: Height, replicates: int, *, swirl: float = 0.0) -> np.ndarray:
    """Growth of neighbours among residents who all climb one landscape, uneven noise, and what rarity adds to every mutant."""
    x, y = np.meshgrid(EMISSION, RESPONSE, indexing="ij")
    there = [height(x + dx, y + dy) - height(x, y) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    fitness = np.stack(there, -1) + swirl * np.stack([-y, y, x + 1, -x - 1], -1) + 0.001
    noise = rng.uniform(0.3, 2.0, (5, 5, 4)) * rng.normal(size=(replicates, 5, 5, 4))
    return fitness + 0.3 * np.std(fitness) * noise


@pytest.mark.parametrize(
    "height",
    [
        lambda x, y: -0.002 * (x + 1) ** 2 - 0.001 * y**2 + 0.001 * x * y,
        lambda x, y: -0.02 / (1 + np.exp(-x)) + 0.03 / (1 + np.exp(-x)) / (1 + np.exp(-y)),
        lambda x, y: 1e-4 * x**3 * y,
    ],
    ids=["a hill", "probabilities", "far from a plane"],
)
def test_whatever_landscape_is_climbed_has_no_curl(height: Height) -> None:
    rng = np.random.default_rng(8)
    found = []
    for i in range(60):
        curl = invasion_curl(*works(grown(rng, height, 12)), EMISSION, RESPONSE, seed=i, resamples=99)
        assert curl.p is not None
        found.append(curl.p)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert 0.35 <= np.mean(found) <= 0.65
    turned = [
        invasion_curl(*works(grown(rng, height, 12, swirl=0.002)), EMISSION, RESPONSE, resamples=99).p
        for _ in range(5)
    ]
    assert max(p for p in turned if p is not None) <= 0.05


def test_works_are_of_neighbours_who_invade_each_other() -> None:
    growth = np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 4) ** 2  # two residents by three
    along, across = works(growth)
    assert along.shape == (1, 3)
    assert along[0, 2] == (growth[0, 2, 0] - growth[1, 2, 1]) / 2
    assert across.shape == (2, 2)
    assert across[1, 0] == (growth[1, 0, 2] - growth[1, 1, 3]) / 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rarity": 1.0}, "rarity"),
        ({"emission": (1.0, 0.0)}, "emission.*increasing by equal steps"),
        ({"response": (0.0, 1.0, 3.0)}, "response.*increasing by equal steps"),
        ({"response": (0.0,)}, "response.*2 or more"),
        ({"settings": World2()}, "policy=tables"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {
        "settings": WORLD,
        "emission": (0.0, 1.0),
        "response": (0.0, 1.0),
        "founders": 40,
    }
    with pytest.raises(EcologyError, match=message):
        invasion_fitness(**{**usual, **asked})
