"""The studies end to end on worlds of a few dozen bacteria, and what they say of what was planted."""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.signal import lfilter

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.jacobian import antisymmetric_share
from fairyring.ecology.dynamics.learners import (
    PARAMETERS,
    _moved,
    in_units,
    judged,
    learning_jacobians,
    traits,
)
from fairyring.ecology.dynamics.traits import trait_rotation
from fairyring.ecology.history.evolution import Evolution, evolve, load
from fairyring.ecology.history.run_file import fingerprint
from fairyring.ecology.results import read_study
from fairyring.ecology.studies.coculture import study_coculture
from fairyring.ecology.studies.non_gradient import (
    STRETCH,
    _observed,
    follow,
    over_stretches,
    study_non_gradient,
)
from fairyring.ecology.world.settings import World1, World2
from fairyring.ecology.world.state import NUMBERS

pytestmark = pytest.mark.optimised

ONE = World1(width=32, capacity=128, sources=2, food_influx=2.0, minimum=8, founders=40)
TWO = World2(width=32, capacity=128, sources=2, food_influx=1.5, minimum=16, founders=60)


@pytest.fixture(scope="module")
def two() -> Evolution:
    return evolve(TWO, 6, 64, seed=3)


def planted(run: Evolution, tables: list[np.ndarray]) -> Evolution:
    """The run's worlds with everybody in a world given one table."""
    worlds = [
        dataclasses.replace(
            world, state=world.state._replace(genomes=np.tile(table, (run.settings.capacity, 1)))
        )
        for world, table in zip(run.worlds, tables, strict=True)
    ]
    return dataclasses.replace(run, worlds=tuple(worlds))


def table(falling: float, flat: float, rising: float) -> np.ndarray:
    p = np.array([falling, flat, rising])
    rows = np.zeros((3, 3, 2), np.float32)
    rows[:, :, 1] = np.log(p / (1 - p)) / ONE.beta
    return rows.reshape(1, -1)


def test_the_study_of_jars_ranks_what_was_planted() -> None:
    run = planted(
        evolve(ONE, 3, 16, seed=1), [table(0.5, 0.1, 0.02), table(0.1, 0.1, 0.1), table(0.99, 0.99, 0.99)]
    )
    seen: list[tuple[str, int, int]] = []
    study = study_coculture(
        evolved=run,
        populations=3,
        jar_steps=400,
        replicates=12,
        founders=40,
        scale=1.0,
        progress=lambda *told: seen.append(told),
    )
    assert [(one.first, one.second) for one in study.contests] == [("0", "1"), ("0", "2"), ("1", "2")]
    assert study.standing is not None
    assert study.standing.order[0] == "0"
    assert study.standing.cycles == 0
    assert 0 < study.early_step < 400
    assert study.early_outcomes != study.outcomes
    assert study.early_standing is None or study.early_standing.sure_cycles is None
    assert "0 excludes 2" in [one.verdict for one in study.contests]
    assert sum(study.verdicts.values()) == 3
    assert study.worlds == (4 * 3 + 3 * 3) * 12
    assert [one.name for one in study.populations] == ["0", "1", "2"]
    climbing = study.contests[1]
    assert climbing.blind is not None
    assert climbing.first_gains.mean > climbing.blind + 0.1  # it is what it feels that makes it win
    assert {what for what, _, _ in seen} == {"jars", "blind jars"}
    told = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(study)))
    assert told["contests"][0]["verdict"] == study.contests[0].verdict
    assert len(told["outcomes"][0][1]) == 12
    assert any(
        "distorted by saturation" in one or "before saturation distorts it" in one for one in study.found
    )


def test_jars_in_which_nobody_lives_are_told_not_refused() -> None:
    run = evolve(ONE, 3, 16, seed=1)
    bare = dataclasses.replace(run, settings=dataclasses.replace(ONE, food_influx=0.0))
    study = study_coculture(evolved=bare, populations=3, jar_steps=400, replicates=2, founders=40, scale=1.0)
    assert {one.verdict for one in study.contests} == {"neither lives"}
    assert study.verdicts["neither lives"] == 3
    assert (study.standing, study.early_standing) == (None, None)
    assert [one.died_out for one in study.populations] == [1.0] * 3
    assert any("nobody lived" in one for one in study.found)
    assert "nan" not in " ".join(study.found)


def test_a_study_of_jars_from_python_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    sizes = {"populations": 2, "jar_steps": 60, "replicates": 2, "founders": 20, "scale": 1.0, "seed": 2}
    study_coculture(tmp_path, settings=ONE, evolution_steps=64, **sizes)
    study = study_coculture(tmp_path, settings=ONE, evolution_steps=128, **sizes)
    run = load(tmp_path / "populations.eco")
    assert (run.steps, fingerprint(run)) == (128, fingerprint(evolve(ONE, 2, 128, seed=2)))
    kept = read_study(tmp_path)
    assert (kept["study"], kept["runs"]) == ("jars", {"populations": fingerprint(run)})
    assert kept["jars"]["verdicts"] == study.verdicts
    assert [one["verdict"] for one in kept["jars"]["contests"]] == [one.verdict for one in study.contests]
    assert kept["verdicts"]["jars"]["gains"] == [
        [one.first_gains.shown, one.second_gains.shown] for one in study.contests
    ]
    larger, lived, low, high = study.first_larger(study.contests[0])
    assert larger <= lived == 2
    assert low is not None
    assert high is not None
    assert low <= larger / lived <= high


def test_the_study_of_jars_refuses_too_few() -> None:
    run = evolve(ONE, 2, 0)
    with pytest.raises(EcologyError, match="2 or more"):
        study_coculture(evolved=run, populations=1)
    with pytest.raises(EcologyError, match="2 that live"):
        study_coculture(evolved=run, populations=3)


def test_traits_are_followed_as_the_worlds_have_them(two: Evolution) -> None:
    looks, after = follow(two, 128)
    assert looks.shape == (6, 2, 4)
    half = two.until(two.steps + 64)
    assert after.steps == two.steps + 128
    numbers = after.worlds[4].numbers[-64:]
    emitters, population = (numbers[:, NUMBERS.index(name)].sum() for name in ("emitters", "population"))
    assert looks[4, 1, 0] == pytest.approx(emitters / population)
    signal = [event.name for event in TWO.events].index("signal")
    genomes = [run.worlds[4].genomes() for run in (two, half, after)]
    ends = [(each[:, signal] / np.linalg.norm(each, axis=1)).mean() for each in genomes]
    np.testing.assert_allclose(looks[4, :, 3], [sum(ends[:2]) / 2, sum(ends[1:]) / 2], rtol=1e-6)
    ends = [_observed(run.worlds[4], [0, 1])[0] for run in (two, half, after)]
    np.testing.assert_allclose(looks[4, :, 1], [sum(ends[:2]) / 2, sum(ends[1:]) / 2])
    assert (np.abs(looks[..., 1]) <= 1).all()
    with pytest.raises(EcologyError, match="a multiple of 64"):
        follow(two, 100)


def test_who_learns_nothing_has_no_jacobian_and_who_learns_forgets(two: Evolution) -> None:
    ask: dict[str, Any] = {"worlds": two.worlds[:2], "steps": 16, "replicates": 2}
    deaf = dataclasses.replace(TWO, alpha=0.0)
    assert np.abs(learning_jacobians(deaf, **ask)).max() < 1e-6
    made = learning_jacobians(TWO, **ask, moved=0.5)
    assert made.shape == (2, 2, 4, 4)
    own = made.mean((0, 1))
    assert own[0, 0] < -0.02  # what was added to all is unlearned where they are
    assert own[2, 2] < -0.02
    again = learning_jacobians(TWO, worlds=two.worlds[1:2], steps=16, replicates=1, moved=0.5)
    np.testing.assert_array_equal(again[0, 0], made[1, 0])  # alone as among others
    with pytest.raises(EcologyError, match="learns"):
        learning_jacobians(ONE, two.worlds)  # pyright: ignore[reportArgumentType] that is the point


def test_tables_have_two_traits() -> None:
    values = np.zeros((2, 18 * 4), np.float32)
    q = values.reshape(2, 9, 2, 4)
    q[0, :, :, 2:] = 0.5
    q[1, :, 1, 1::2] = 0.25
    np.testing.assert_allclose(traits(values), [[0.5, 0.0], [0.0, 0.25]], atol=1e-7)


def test_what_is_averaged_does_not_turn_with_what_is_looked_at() -> None:
    """Two traits that fluctuate together and reversibly: none is followed a moment before the other."""
    rng, looks, memory = np.random.default_rng(9), 64, np.exp(-1 / 100)
    noise = rng.normal(size=(480, (looks + 8) * STRETCH + 1, 2))
    noise[..., 1] = 0.6 * noise[..., 0] + 0.8 * noise[..., 1]
    both = lfilter([1], [1, -memory], noise, axis=1)[:, 8 * STRETCH :]
    ends = np.swapaxes(both[:, ::STRETCH, 1:], 0, 1)
    # An emission lies between two states: it is chosen in the one and has its part in the other.
    between = (both[:, 1:, 0] + both[:, :-1, 0]) / 2
    means = between.reshape(480, looks, STRETCH).mean(2).T
    followed = np.swapaxes(over_stretches(means, ends), 0, 1)
    p = [trait_rotation(worlds, resamples=99).p for worlds in followed.reshape(40, 12, looks, 2)]
    assert np.mean(np.array(p) <= 0.05) <= 0.15
    assert 0.3 < np.mean(p) < 0.7
    lagging = np.stack([means.T, ends[1:, :, 0].T], -1)  # as it would be with the last of the looks
    assert trait_rotation(lagging[:12], resamples=99).p < 0.001


@dataclass
class Tables:
    """As much of a state as is moved."""

    mind: dict[str, np.ndarray]

    def _replace(self, mind: dict[str, np.ndarray]) -> "Tables":
        return Tables(mind)


@pytest.mark.parametrize("individuals", [4, 7])
def test_learners_who_climb_one_function_have_a_jacobian_that_is_its_own_transpose(individuals: int) -> None:
    """dQ = K Q with any symmetric K over all entries of all tables, halves of whatever size."""
    rng, entries = np.random.default_rng(individuals), 72
    k = rng.normal(size=(individuals * entries,) * 2)
    k += k.T
    half = np.arange(individuals) % 2
    rest = Tables({"values": np.zeros((individuals + 3, entries))})

    def measured(k: np.ndarray) -> np.ndarray:
        columns = []
        for part, trait in itertools.product((0, 1), (0, 1)):
            tables = _moved(rest, half == part, trait, 1.0).mind["values"][:individuals]
            learned = traits((k @ tables.ravel()).reshape(individuals, entries))
            columns.append(np.concatenate([learned[half == one].mean(0) for one in (0, 1)]))
        return np.array(columns).T

    raw = measured(k)
    found = in_units(raw, half, entries)
    assert found.shape == (len(PARAMETERS),) * 2
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert antisymmetric_share(raw) > 0.1  # means of different numbers of entries
    np.testing.assert_allclose(np.diag(found), np.diag(raw))
    turning = in_units(measured(np.triu(k) - np.tril(k)), half, entries)
    np.testing.assert_allclose(turning, -turning.T, atol=1e-12)
    assert judged(np.array([found] * 6), steps=1, moved=1.0).p == 1.0
    assert judged(np.array([turning] * 6), steps=1, moved=1.0).p == 2 / 2**6


def test_a_turning_jacobian_is_told_from_noise() -> None:
    """Two learners of whom each pursues what the other flees, beside forgetting; and the same without."""
    rng = np.random.default_rng(0)
    turn = np.diag([-0.3] * 4)
    turn[0, 3], turn[3, 0] = 0.2, -0.2
    found = judged(turn + 0.05 * rng.normal(size=(12, 4, 4)), steps=32, moved=0.1)
    assert found.between_p < 0.01
    assert found.p < 0.01
    assert found.antisymmetric_share == pytest.approx(antisymmetric_share(turn), abs=0.1)
    p = []
    for i in range(40):
        noise = np.diag([-0.3] * 4) + 0.05 * rng.normal(size=(12, 4, 4))
        p.append(judged(noise, steps=32, moved=0.1, seed=i, resamples=499).p)
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.05) <= 0.15


def test_the_study_of_rotation_says_what_it_measured(two: Evolution) -> None:
    study = study_non_gradient(
        evolved=two,
        steps=33 * 64,
        invasion_replicates=3,
        invasion_steps=240,
        learning_replicates=1,
        emission=(-2.0, 0.0),
        response=(-1.0, 1.0),
        scale=1.0,
    )
    assert (study.worlds, study.settled, study.steps) == (6, 64, 2112)
    assert len(study.behaviour.rotation.turning) == 6
    assert study.behaviour.rotation.p >= 2 / 64
    assert study.rewards.rotation.block == 2
    assert np.shape(study.curl.gradients) == (2, 2, 2)
    assert study.learning.replicates == 6  # worlds
    assert len(study.found) == 5
    assert "With 6 worlds no p of a rotation or of learning can be below 0.031" in study.found[4]
    assert study.jars is None
    assert msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(study)))["curl"]["share"] >= 0
    with pytest.raises(EcologyError, match="from 2112"):
        study_non_gradient(evolved=two, steps=640)
    with pytest.raises(EcologyError, match="World2"):
        study_non_gradient(settings=ONE)  # pyright: ignore[reportArgumentType] that is the point
