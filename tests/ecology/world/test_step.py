"""The compiled step against plain loops: every number of every world after every step."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from fairyring.ecology.world.settings import World
from fairyring.ecology.world.state import AMOUNTS, NUMBERS, Log, State, snapshot
from tests.ecology import oracle, worlds

pytestmark = pytest.mark.optimised

# Numbers of a world: all share its program.
CASES: dict[str, dict[str, float]] = {
    "as it is": {},
    "everybody takes a gene, every gene mutates": {"conjugation": 1.0, "mutation_rate": 1.0},
    "nothing spreads": {"food_diffusion": 0.0, "food_influx": 0.0, "food_decay": 0.0, "turning": 1.0},
    "immigrants by the dozen": {"minimum": 150, "basal_cost": 0.2, "source_lifetime": 2.0},
    "hardly any food, and greedy": {"food_influx": 0.01, "uptake_rate": 1.0, "uptake_limit": 0.5, "speed": 1.0},
}  # fmt: skip


def compare(state: State, log: Log, expected: oracle.Plain, tally: oracle.Tally) -> None:
    numbers = dict(zip(NUMBERS, log.numbers[0].tolist(), strict=True))
    assert numbers == tally.numbers
    for words, places in ((log.died, tally.died), (log.divided, tally.divided), (log.born, tally.born)):
        bits = [(int(words[0, p // 32]) >> (p % 32)) & 1 for p in range(words.shape[1] * 32)]
        assert [p for p, bit in enumerate(bits) if bit] == places
    assert int(state.step) == expected.step
    assert np.flatnonzero(state.alive).tolist() == sorted(expected.cells)
    np.testing.assert_allclose(state.places, expected.sources, rtol=1e-6)
    for name, rows in expected.fields.items():
        np.testing.assert_allclose(state.fields[name], rows, rtol=1e-5, atol=1e-6)
    places, cells = sorted(expected.cells), [expected.cells[p] for p in sorted(expected.cells)]

    def same(now: np.ndarray, then: list[Any], atol: float = 1e-5) -> None:
        expect = np.asarray(then, float).reshape(len(cells), *now.shape[1:])
        np.testing.assert_allclose(now[places], expect, rtol=1e-5, atol=atol)

    same(state.x, [c.x for c in cells])
    same(state.y, [c.y for c in cells])
    same(state.ux, [math.cos(c.angle) for c in cells])
    same(state.uy, [math.sin(c.angle) for c in cells])
    same(state.energy, [c.energy for c in cells], 1e-6)
    same(state.memory, [c.memory for c in cells], 1e-6)
    same(state.genomes, [c.genome for c in cells])
    assert state.tumbled[places].tolist() == [c.tumbled for c in cells]
    assert state.emitted[places].tolist() == [c.emitted for c in cells]
    if state.mind:
        same(state.mind["values"], [np.ravel(c.values) for c in cells])
        same(state.mind["reward"], [c.reward for c in cells])
        entries = [-1 if c.last is None else c.last[0] * 4 + c.last[1] for c in cells]
        assert state.mind["place"][places].tolist() == entries
    for name, amount in zip(AMOUNTS, log.amounts[0], strict=True):
        assert amount == pytest.approx(tally.amounts[name], rel=1e-5, abs=1e-5), name


def follow(settings: World, *, heredity: str = "", seed: int, each: int = 3) -> dict[str, int]:
    """Compare some steps of each case, from rich states with few, many and as many as can be; what all of them did."""
    rng, compared, made = np.random.default_rng(seed), 0, 0
    did: dict[str, int] = {name: 0 for name in NUMBERS}
    for numbers in CASES.values():
        world = dataclasses.replace(settings, **numbers)
        # The third: all are ready, and there is room for most of them, which is more than a step does.
        for share, gift in ((0.03, 0), (0.5, 0), (0.55, 3), (0.97, 0), (1.0, 0)):
            state, key = worlds.rich(world, rng, share=share), worlds.key_of(seed + made)
            state = state._replace(energy=(state.energy + np.float32(gift)) * state.alive)
            for _ in range(each):
                after, log = worlds.run(world, state, key)
                expected, tally = oracle.advance(oracle.plain(world, state), world, key, heredity=heredity)
                made += 1
                if not tally.close:
                    compare(after, log, expected, tally)
                    compared += 1
                    for name, number in tally.numbers.items():
                        did[name] += number
                state = snapshot(after)
    assert compared > 0.7 * made
    return did


def test_a_step_of_world_1_is_the_plain_loops() -> None:
    did = follow(worlds.FIRST, seed=1)
    # So that nothing was left out: all of it happened, also what needs a full world or a great crowd.
    assert all(did[name] > 0 for name in NUMBERS if name not in ("emitters", "short")), did


def test_a_step_of_world_2_is_the_plain_loops() -> None:
    did = follow(worlds.SECOND, heredity="retention", seed=2)
    assert all(did[name] > 0 for name in NUMBERS if name != "short"), did


@pytest.mark.parametrize(
    ("settings", "heredity", "seed"),
    [
        pytest.param(worlds.HOPPING_BLIND, "", 3, id="hopping, blind"),
        pytest.param(worlds.REWARDS_SCRAMBLED, "rewards", 4, id="rewards, hopping, scrambled, every event"),
        pytest.param(worlds.EVOLVED_BLIND, "evolved values", 5, id="evolved values", marks=pytest.mark.slow),
        pytest.param(worlds.LAMARCK_HOPPING, "lamarck", 6, id="lamarck", marks=pytest.mark.slow),
    ],
)
def test_a_step_of_worlds_of_other_kinds(settings: World, heredity: str, seed: int) -> None:
    did = follow(settings, heredity=heredity, seed=seed, each=2)
    assert all(
        did[name] > 0 for name in ("births", "deaths", "immigrants", "conjugations", "waiting", "delayed")
    ), did
