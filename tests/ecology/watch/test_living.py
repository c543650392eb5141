"""A world that is watched is the world that runs unwatched; what is turned and painted changes it and nothing else."""

import dataclasses
import json
import sys
import tracemalloc
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from fairyring.core.errors import EcologyError, MissingExtra
from fairyring.ecology.history.evolution import evolve
from fairyring.ecology.history.running import WorldRun, world_key
from fairyring.ecology.watch import film, serve, write_video
from fairyring.ecology.watch.living import LivingWorld
from fairyring.ecology.world.policies import tables
from fairyring.ecology.world.settings import World1, World2
from fairyring.ecology.zoo import exhibits
from tests.ecology.worlds import FIRST, SECOND, same_bits

pytestmark = pytest.mark.optimised


@pytest.fixture
def living() -> LivingWorld:
    return LivingWorld(FIRST, seed=3, number=1)


@pytest.fixture
def uncompiled(monkeypatch) -> None:
    """Worlds that only begin: nothing is compiled for them."""
    monkeypatch.setattr("fairyring.ecology.watch.living.Worker", lambda settings, place: None)


def test_watched_it_is_the_same_world_to_the_bit(living):
    for steps in (1, 64, 7, 32):
        living.advance(steps)
        living.frame()
    alone = evolve(FIRST, [1], 104, seed=3).worlds[0]
    watched = living.world_run()
    same_bits(watched.state, alone.state)
    for name in ("parent", "born", "died", "holder"):
        np.testing.assert_array_equal(getattr(watched.lineage, name), getattr(alone.lineage, name))
    np.testing.assert_array_equal(watched.numbers, alone.numbers)
    np.testing.assert_array_equal(watched.amounts, alone.amounts)
    assert watched.key.tolist() == alone.key.tolist()


def test_a_frame_shows_everybody_alive_and_counts_since_the_last(living):
    living.advance(40)
    first = living.frame()
    living.advance(40)
    frame = living.frame()
    world = living.world_run()
    assert frame.step == 80
    assert frame.counts.population == len(frame.uid) == world.state.alive.sum()
    assert frame.counts.births == world.numbers[40:, 1].sum()
    assert frame.counts.population == first.counts.population + (
        frame.counts.births + frame.counts.immigrants - frame.counts.deaths
    )
    assert frame.counts.food == pytest.approx(float(world.state.fields["food"].sum()), rel=1e-6)
    np.testing.assert_allclose(np.cos(frame.direction), world.state.ux[world.living()], atol=1e-5)
    assert frame.signal is None
    assert frame.mind.kind == "table"
    assert frame.mind.mean.shape == (3, 3)
    tables = world.genomes().reshape(-1, 9, 2)
    p = 1 / (1 + np.exp(-FIRST.beta * (tables[:, :, 1] - tables[:, :, 0])))
    np.testing.assert_allclose(frame.mind.mean.reshape(-1), p.mean(0), rtol=1e-4)


def test_a_life_is_told_as_the_family_tree_has_it(living):
    while not (living.world_run().lineage.died >= 0).any():
        living.advance(64)
    living.advance(64)
    world = living.world_run()
    born = np.flatnonzero((world.lineage.parent >= 0) & (world.lineage.died < 0))
    assert len(born)
    life = living.life(int(born[-1]))
    assert life is not None
    assert life.origin == "born"
    assert life.died is None
    assert life.ancestors[0] == life.parent
    assert life.ancestors[-1] == life.founder
    assert life.generation == life.forebears == len(life.ancestors) == world.lineage.generation()[born[-1]]
    assert life.mind.shape == (3, 3)
    assert np.isfinite(life.mind).all()
    assert life.energy > 0
    dead = int(np.flatnonzero(world.lineage.died >= 0)[0])
    gone = living.life(dead)
    assert gone is not None
    assert gone.died == world.lineage.died[dead]
    assert np.isnan(gone.energy)
    assert living.life(len(world.lineage)) is None
    assert living.life(-1) is None


def test_whose_child_everybody_is_stays_known_however_often_one_looks(living):
    for i, steps in enumerate((3, 64, 1, 64, 40, 64, 64) * 3):
        living.turn("minimum", 155 if i == 9 else 8)
        living.advance(steps)
        living.frame()
    tree = living.world_run().lineage
    assert (tree.generation() > 2).any()
    assert ((tree.parent < 0) & (tree.born > 0)).any()  # immigrants
    founder, generation, offspring = tree.founder(), tree.generation(), tree.offspring()
    for uid in range(len(tree)):
        life = living.life(uid)
        assert (life.founder, life.generation, life.offspring) == (
            founder[uid],
            generation[uid],
            offspring[uid],
        )
        assert life.forebears == len(tree.ancestors(uid))
        assert list(life.ancestors) == tree.ancestors(uid)[:50]
        assert (life.died is None) == (tree.died[uid] < 0)


def test_a_look_costs_as_much_when_the_world_is_old():
    def cost():
        """The most memory that a look needs, bytes; the least of a few, for now and then there must be more room."""
        peaks = []
        for _ in range(4):
            living.advance(1)
            tracemalloc.start()
            living.life(int(living.frame().uid[0]))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return min(peaks)

    living = LivingWorld(FIRST, seed=3)
    living.advance(64)
    young = cost()
    for _ in range(150):
        living.advance(64)
    assert cost() < 1.5 * young


def test_a_world_that_outgrows_its_history_lives_on_without():
    living = LivingWorld(FIRST, seed=3, history=100)
    living.advance(64)
    assert living.world_run().steps == 64
    living.advance(64)
    before = living.frame()
    with pytest.raises(EcologyError, match="history: given a world of 128 steps; expected at most 100"):
        living.world_run()
    living.advance(64)
    counts = living.frame().counts
    assert counts.population == before.counts.population + counts.births + counts.immigrants - counts.deaths
    living.restart(3)
    assert living.world_run().steps == 0


def test_the_nearest_is_found_across_the_seam(living):
    living.advance(1)
    world = living.world_run()
    place = int(world.living()[0])
    x, y, uid = float(world.state.x[place]), float(world.state.y[place]), int(world.uids()[0])
    found = living.at(x, y, 0.5)
    assert found is not None
    other = int(np.flatnonzero(world.lineage.holder == found)[0])
    assert found == uid or np.hypot(world.state.x[other] - x, world.state.y[other] - y) <= 1e-6
    moved = world.state._replace(x=np.full_like(world.state.x, 15.9), y=np.full_like(world.state.y, 0.0))
    living._state = living._seen = moved
    assert living.at(0.05, 15.95, 0.3) is not None
    assert living.at(8.0, 8.0, 2.0) is None


def test_painting_adds_that_much_food_and_nothing_else(living):
    living.advance(5)
    before = living.frame()
    living.paint(0.5, 0.5, 2.2, 0.25)
    after = living.frame()
    added = after.food - before.food
    assert set(np.unique(added.round(5))) == {0.0, 0.25}
    assert added[0, 0] == added[15, 0] == added[0, 15] == np.float32(0.25)  # across the seam
    assert (added > 0).sum() == 13  # cells whose centres are within 2.2 of a cell's centre
    np.testing.assert_array_equal(before.energy, after.energy)


def test_knobs_turn_the_running_world_without_compiling(living):
    from fairyring.ecology.history.running import compiled

    living.advance(3)
    program = compiled(FIRST.structure(), FIRST.capacity, 1)
    made = program.compilations
    for name, value in (("rho", 0.5), ("source_lifetime", 20.0), ("minimum", 40.0), ("mutation_rate", 0.0)):
        living.turn(name, value)
        assert living.knobs()[name].value == pytest.approx(value)
        living.advance(3)
    assert living.frame().counts.population >= 40
    assert program.compilations == made
    assert living.settings.rho == pytest.approx(0.5)


@pytest.mark.parametrize("settings", [World1(), World2()], ids=["v1", "v2"])
def test_every_setting_is_a_knob_and_turning_one_needs_no_other_program(settings, uncompiled):
    living = LivingWorld(settings)
    knobs = living.knobs()
    fields = {field.name for field in dataclasses.fields(settings)} - {"senses", "rewarded"}
    assert fields - knobs.keys() == ({"policy"} if isinstance(settings, World1) else set())
    arguments = settings.knobs().keys() - {"scrambled", "blind", "founders"} | {"control", "rho"}
    assert {name for name, knob in knobs.items() if not knob.new_world} == arguments
    groups = [knob.group for knob in knobs.values()]
    assert len(set(groups)) == 1 + sum(a != b for a, b in pairwise(groups))
    for name, knob in knobs.items():
        assert knob.low <= knob.value == knob.default <= knob.high
        # Towards the lower end all go together; of a choice, the last one.
        value = knob.high if knob.choices else knob.low + (knob.default - knob.low) / 2
        if knob.new_world:
            with pytest.raises(EcologyError, match=f"{name}: given a running world; expected a new one"):
                living.turn(name, value)
            continue
        living.turn(name, value)
        assert living.knobs()[name].value == pytest.approx(value, abs=knob.step / 2 + 1e-6)
    assert living.settings != settings
    assert living.settings.structure() == settings.structure()
    for name, knob in knobs.items():
        if not knob.new_world:
            living.turn(name, knob.default)
    assert living.settings == settings


def test_a_new_world_has_the_settings_that_need_one(living):
    living.advance(5)
    living.turn("memory", 3.0)
    before = living.frame()
    with pytest.raises(EcologyError, match="capacity"):
        living.restart(9, {"capacity": 64, "founders": 100})
    assert (living.seed, living.frame().step) == (3, before.step)
    changes = {"width": 20, "capacity": 101, "sources": 2, "founders": 50, "dwell": 0}
    living.restart(9, changes)
    expected = {"width": 20, "capacity": 96, "sources": 2, "founders": 50, "dwell": False, "memory": 3.0}
    assert living.settings == dataclasses.replace(FIRST, **expected)
    assert living.frame().food.shape == (20, 20)
    assert living._worker is None  # compiled when it is needed
    assert living.knobs()["width"].default == 16


def test_a_line_goes_on_with_its_nearest_and_best_fed_descendant(living):
    while living.step < 64 or not (living.world_run().lineage.died >= 0).any():
        living.advance(64)
    world = living.world_run()
    lines = {int(uid): world.lineage.ancestors(int(uid)) for uid in world.uids()}
    energy = dict(zip(world.uids().tolist(), world.state.energy[world.living()], strict=True))
    ends = 0
    for uid in range(len(world.lineage)):
        heirs = {one: line.index(uid) for one, line in lines.items() if uid in line}
        expected = min(heirs, key=lambda one: (heirs[one], -energy[one]), default=None)
        assert living.heir(uid) == expected
        ends += expected is None
    assert 0 < ends < len(world.lineage)
    assert living.heir(len(world.lineage)) is None


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("starlette", "live"),
        ("uvicorn", "live"),
        ("websockets", "live"),
        ("PIL", "video"),
        ("imageio_ffmpeg", "video"),
    ],
)
def test_a_missing_extra_is_noticed_before_anything_is_compiled(module, extra, monkeypatch, tmp_path):
    def compiled(*_):
        raise AssertionError("a world was compiled first")

    monkeypatch.setattr("fairyring.ecology.watch.living.Worker", compiled)
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / ("world.gif" if module == "PIL" else "world.mp4")

    def show():
        if extra == "live":
            serve(LivingWorld(FIRST), port=0, open_browser=False)
        write_video(film(LivingWorld(FIRST), 4, 8, 2, before=print, progress=print), path)

    with pytest.raises(MissingExtra, match=rf"fairyring\[{extra}\]"):
        show()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda world: world.turn("rhubarb", 1.0), "rhubarb: given no knob; expected rho"),
        (lambda world: world.turn("rho", 99.0), "rho: given 99"),
        (lambda world: world.paint(16.0, 1.0, 1.0, 1.0), "paint: given .*within 0 to 16"),
        (lambda world: world.paint(1.0, 1.0, 0.0, 1.0), "paint: given"),
        (lambda world: world.paint(1.0, 1.0, 1.0, float("nan")), "paint: given"),
        (lambda world: world.restart(-1), "seed: given -1"),
    ],
)
def test_what_makes_no_sense_changes_nothing(living, call, message):
    before = living.frame()
    with pytest.raises(EcologyError, match=message):
        call(living)
    np.testing.assert_array_equal(living.frame().food, before.food)
    assert living.settings == FIRST


@pytest.mark.parametrize("nothing", ["uptake_rate", "basal_cost", "food_decay"])
def test_where_nobody_can_say_rho_there_is_no_such_knob(nothing, uncompiled):
    settings = dataclasses.replace(FIRST, **{nothing: 0.0})
    living = LivingWorld(settings)
    assert "rho" not in living.knobs()
    with pytest.raises(EcologyError, match=f"rho: given a world with {nothing} of 0"):
        living.turn("rho", 1.0)
    assert living.settings == settings
    living.turn("minimum", 10)
    assert living.settings.minimum == 10


def test_a_restart_is_another_seed_of_the_same_world(living):
    assert living.seed == 3
    living.turn("minimum", 20.0)
    living.advance(10)
    living.restart(9)
    assert living.seed == 9
    living.advance(10)
    fresh = evolve(dataclasses.replace(FIRST, minimum=20), [1], 10, seed=9).worlds[0]
    same_bits(living.world_run().state, fresh.state)


def test_rewards_and_signal_of_the_second_world():
    living = LivingWorld(SECOND, seed=1)
    living.advance(30)
    frame = living.frame()
    assert frame.mind.kind == "rewards"
    assert frame.mind.rows[0] == "alive"
    assert frame.mind.mean.shape == (10, 1)
    assert frame.signal is not None
    assert frame.counts.signal == pytest.approx(float(frame.signal.sum()), rel=1e-5)
    np.testing.assert_allclose(frame.mind.mean[:, 0], living.world_run().genomes()[:, :10].mean(0), rtol=1e-5)
    living.turn("emission_cost", 0.05)
    assert living.settings.knobs()["emission_cost"] == np.float32(0.05)


def test_who_learns_nothing_has_a_table_whatever_the_world(uncompiled):
    settings = dataclasses.replace(SECOND, policy=tables())
    living = LivingWorld(settings, seed=1)
    mind = living.frame().mind
    assert mind.kind == "table"
    assert mind.rows == settings.senses[0].labels
    assert len(mind.columns) == 6
    entries = living.world_run().genomes().reshape(-1, 18, 4)
    odds = np.exp(settings.beta * entries)
    tumbling = (odds[:, :, 1] + odds[:, :, 3]) / odds.sum(2)
    np.testing.assert_allclose(mind.mean.reshape(-1), tumbling.mean(0), rtol=1e-4)


@pytest.mark.parametrize("learning", [True, False])
def test_an_exhibits_card_has_rewards_only_of_those_that_learn(learning, monkeypatch, tmp_path):
    settings = SECOND if learning else dataclasses.replace(SECOND, policy=tables())
    world = WorldRun.new(settings, world_key(1, number=0))
    run = SimpleNamespace(worlds=[world], numbers=[0], seed=1, settings=settings)
    monkeypatch.setattr(exhibits, "load", lambda path: run)
    assay = dict.fromkeys(("index", "contrast", "level_contrast", "index_without_sensor"), 1.5)
    row = {"population": 60, "generations": 1, "immigrants": 0, "assay": assay}
    found = {
        "study": "v2",
        "viability": {"classes": ["viable"]},
        "arms": {"evolved": {"worlds": [row], "hash": ""}},
    }
    (tmp_path / "study.json").write_text(json.dumps(found))
    (made,) = exhibits.make_zoo(tmp_path, tmp_path / "zoo")
    kept = exhibits.read_exhibit(made)
    assert kept.card["viability"] == "viable"
    assert ("rewards" in kept.card) == learning
    if learning:
        rewards = world.genomes()[:, :10].mean(0)
        np.testing.assert_allclose(list(kept.card["rewards"].values()), rewards, atol=1e-4)
