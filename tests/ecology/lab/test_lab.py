"""The lab: nothing in it changes but where its guests are, and what it measures is what they do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fairyring.core.errors import EcologyError
from fairyring.ecology.history.evolution import evolve
from fairyring.ecology.history.run_file import fingerprint
from fairyring.ecology.lab import arenas as lab
from fairyring.ecology.lab.arenas import Arena, field, watch
from fairyring.ecology.lab.assays import assay, drift, index, run_lengths, share, table
from fairyring.ecology.lab.rates import event_rates
from fairyring.ecology.world.events import ALIVE, EMITTED, Event
from tests.ecology.worlds import FIRST, SECOND

# A lab as wide as the studies' has room for runs; its program is this file's only one.
WIDE = dataclasses.replace(FIRST, width=64, capacity=256, founders=100)
RUN, TUMBLE = (2.0, -2.0), (-2.0, 2.0)


def climber() -> np.ndarray:
    """Tumbles when food falls, runs when it rises; by nothing but change."""
    return np.array([of for _ in range(3) for of in (TUMBLE, RUN, RUN)], np.float32).reshape(-1)


def of_one_kind(genome: np.ndarray, n: int = 256) -> np.ndarray:
    return np.tile(genome, (n, 1)).astype(np.float32)


def seen(genome: np.ndarray, arena: Arena, steps: int = 400, seed: int = 0) -> lab.Tracks:
    return watch(WIDE, of_one_kind(genome), (), arena, key=jax.random.key(seed), steps=steps)


@pytest.fixture(scope="module")
def climbing() -> lab.Tracks:
    return seen(climber(), Arena())


def test_whoever_climbs_is_found_on_food_and_whoever_feels_nothing_is_anywhere(climbing):
    climbs = index(climbing.food, climbing, 150)
    assert climbs.shape == (256,)
    assert climbs.mean() > 2
    blind = seen(climber(), Arena(sensing=False))
    assert index(blind.food, blind, 0).mean() == pytest.approx(1, abs=0.1)
    assert drift(climbing, WIDE).mean() > 0.2
    assert abs(drift(blind, WIDE).mean()) < 0.05


def test_runs_up_are_longer_than_runs_down(climbing):
    up, down = run_lengths(climbing)
    assert np.nanmean(up) > 3 * np.nanmean(down)


def test_the_contrast_is_the_tables_own(climbing):
    falling, rising = climbing.change == 0, climbing.change == 2
    p = 1 / (1 + np.exp(-WIDE.beta * 4))  # of the preference at hand, by the softmax
    contrast = share(climbing.tumbled, falling) - share(climbing.tumbled, rising)
    assert np.nanmean(contrast) == pytest.approx(2 * p - 1, abs=0.02)
    probabilities = table([climbing])
    for level in range(3):
        for change, expected in ((0, p), (2, 1 - p)):
            if np.isfinite(probabilities[level, change]):
                assert probabilities[level, change] == pytest.approx(expected, abs=0.05)


def test_nothing_in_the_lab_changes_but_places(climbing):
    """The same state steps on under the lab's settings: fields, energies and genomes are what they were."""
    from fairyring.ecology.history.running import compiled
    from fairyring.ecology.world.state import empty
    from tests.ecology.worlds import run

    still = lab._still(WIDE)
    state = empty(still, still.capacity)
    rng = np.random.default_rng(0)
    state = state._replace(
        alive=np.arange(256) < 250,
        x=(rng.random(256) * 64).astype(np.float32),
        y=(rng.random(256) * 64).astype(np.float32),
        energy=np.full(256, 1.0, np.float32),
        genomes=rng.normal(0, 1, (256, WIDE.genes)).astype(np.float32),
        fields={"food": field("ridge", 64)},
    )
    after, logs = run(still, state, np.zeros(2, np.uint32), 50)
    np.testing.assert_array_equal(after.fields["food"], state.fields["food"])
    np.testing.assert_array_equal(after.energy[:250], state.energy[:250])
    np.testing.assert_array_equal(after.genomes[:250], state.genomes[:250])
    np.testing.assert_array_equal(after.alive, state.alive)
    assert not logs.died.any()
    assert not logs.born.any()
    assert (after.x[:250] != state.x[:250]).mean() > 0.5
    assert compiled(still.structure(), 256, 1) is compiled(
        WIDE.structure(), 256, 1
    )  # the world's own program


def test_fields_slope_everywhere_and_are_even():
    ridge, patch, flat = (field(shape, 64) for shape in ("ridge", "patch", "flat"))
    assert ridge.max() == pytest.approx(lab.PEAK, rel=0.1)
    assert ridge.min() == pytest.approx(lab.EDGE, rel=0.1)
    assert (np.diff(ridge[:33, 0]) >= 0).all()
    assert (np.diff(ridge[31:, 0]) <= 0).all()
    np.testing.assert_allclose(ridge, np.repeat(ridge[:, :1], 64, 1))
    np.testing.assert_allclose(ridge, ridge[::-1])
    np.testing.assert_allclose(patch, patch.T)
    assert (flat == flat[0, 0]).all()


def test_the_blind_stay_blind_in_the_lab():
    """The same climbers: their own observations lead them up, somebody else's nowhere."""
    blind = dataclasses.replace(WIDE, control="blind")
    tracks = watch(blind, of_one_kind(climber()), (), Arena(), key=jax.random.key(0), steps=240)
    assert index(tracks.food, tracks, 120).mean() == pytest.approx(1, abs=0.2)
    falling, rising = tracks.change == 0, tracks.change == 2
    contrast = share(tracks.tumbled, falling) - share(tracks.tumbled, rising)
    assert abs(np.nanmean(contrast)) < 0.05


def test_guests_begin_spread_out_evenly():
    x, y = lab._spread_out(jax.random.key(3), 64, 64)
    np.testing.assert_array_equal(np.sort(x.astype(int)), np.arange(64))
    np.testing.assert_array_equal(np.sort(y.astype(int)), np.arange(64))
    assert x.max() < 64
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.5


def test_a_world_is_assayed_by_its_living_and_an_empty_one_not_at_all():
    run = evolve(WIDE, 3, 40, seed=2)
    dead = run.worlds[1].state._replace(alive=np.zeros(256, bool))
    worlds = (run.worlds[0], dataclasses.replace(run.worlds[1], state=dead), run.worlds[2])
    run = dataclasses.replace(run, worlds=worlds)
    told = []
    found = assay(
        run, individuals=60, steps=60, settling=10, seed=4, progress=lambda done, of: told.append((done, of))
    )
    assert found[1] is None
    assert found[0] is not None
    assert found[2] is not None
    assert found[0].index.shape == (60,)
    assert np.isnan(found[0].index_of_signal).all()  # world 1 has no signal
    assert told[-1] == (2, 2)
    again = assay(run, individuals=60, steps=60, settling=10, seed=4, cores=1)
    np.testing.assert_array_equal(again[2].index, found[2].index)
    other = assay(run, individuals=60, steps=60, settling=10, seed=5)
    assert not np.array_equal(other[2].index, found[2].index)


@pytest.mark.parametrize(
    "asked", [{"individuals": 0}, {"individuals": 257}, {"steps": 10, "settling": 10}, {"settling": -1}]
)
def test_an_assay_of_nothing_is_refused(asked):
    with pytest.raises(EcologyError, match=r"assay: given .*expected .*individuals"):
        assay(evolve(WIDE, 1, 0), **asked)


def test_event_rates_are_the_values_of_the_events() -> None:
    quarter = Event("quarter", lambda happened: jnp.where(happened.alive, 0.25, 0.0))
    settings = dataclasses.replace(SECOND, rewarded=(ALIVE, quarter, EMITTED))
    run = evolve(settings, worlds=2, steps=30, seed=4)
    before = fingerprint(run)
    rates = event_rates(run)
    assert fingerprint(run) == before
    assert rates["alive"].tolist() == [1.0, 1.0]
    assert rates["quarter"].tolist() == [0.25, 0.25]
    after = run.until(31).worlds
    for world, rate in zip(after, rates["emitted"], strict=True):
        born = world.lineage.born[world.uids()] == 31
        assert rate == np.asarray(world.state.emitted)[world.living()][~born].mean()
    with pytest.raises(EcologyError, match=r"q_learning\(\)"):
        event_rates(evolve(FIRST, worlds=1, steps=0))
