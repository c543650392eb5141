"""A world is the same to the bit however it is run: alone or among others, in one go or not, on any cores, in any places."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fairyring.core.errors import EcologyError, RunDamaged, RunError, RunMismatch, StorageError
from fairyring.core.tensors import read_tensors, tensors
from fairyring.ecology.history import evolution, run_file, running
from fairyring.ecology.history.evolution import Evolution, evolve, load
from fairyring.ecology.history.run_file import fingerprint, save
from fairyring.ecology.world.events import ALIVE, EAT, Event
from fairyring.ecology.world.senses import LEVEL, Sense
from fairyring.ecology.world.settings import World, World1, World2
from fairyring.ecology.world.state import NUMBERS, resized, snapshot
from fairyring.ecology.world.step import make_step
from tests.ecology import oracle, worlds
from tests.ecology.world.test_step import compare

pytestmark = pytest.mark.optimised

STEPS = 300
SEED = 3


def same(one: Evolution, other: Evolution) -> None:
    """Raise unless two runs are the same, but for the time they took."""
    assert (one.settings, one.seed, one.numbers) == (other.settings, other.seed, other.numbers)
    for a, b in zip(one.worlds, other.worlds, strict=True):
        worlds.same_bits(_plain(a), _plain(b))


def _plain(world: running.WorldRun) -> dict[str, Any]:
    tree = {f.name: getattr(world.lineage, f.name) for f in dataclasses.fields(world.lineage)}
    return {"key": world.key, "state": world.state, "numbers": world.numbers, "amounts": world.amounts} | tree


@pytest.fixture(scope="module", params=[worlds.FIRST, worlds.SECOND], ids=["world 1", "world 2"])
def run(request: pytest.FixtureRequest) -> Evolution:
    return evolve(request.param, worlds=3, steps=STEPS, seed=SEED, cores=1)


@pytest.fixture(scope="module")
def short_run() -> Evolution:
    return evolve(worlds.FIRST, worlds=2, steps=140, seed=SEED, cores=1)


# The same bits.


def test_a_run_has_lives_in_it(run: Evolution) -> None:
    metrics = run.metrics
    assert metrics["population"].shape == (3, STEPS)
    assert (metrics["births"].sum(1) > 0).all()
    assert (metrics["deaths"].sum(1) > 0).all()
    assert len({fingerprint(dataclasses.replace(run, worlds=(w,), numbers=(0,))) for w in run.worlds}) == 3
    assert run.agent_steps == metrics["population"].sum()
    for world in run.worlds:
        told = world.numbers[:, [NUMBERS.index(name) for name in ("births", "immigrants", "deaths")]].sum(0)
        assert len(world.lineage) == run.settings.founders + told[0] + told[1]
        assert (world.lineage.died >= 0).sum() == told[2]
        assert (world.lineage.died[world.uids()] == -1).all()


def test_a_world_alone_is_the_same_as_among_others(run: Evolution) -> None:
    alone = evolve(run.settings, worlds=[2], steps=STEPS, seed=SEED, cores=1)
    same(alone, dataclasses.replace(run, numbers=(2,), worlds=run.worlds[2:]))


def test_a_world_that_goes_on_is_the_same_as_in_one_go(run: Evolution) -> None:
    pieces = evolve(run.settings, worlds=[1], steps=0, seed=SEED, cores=1)
    for upto in (1, 2, 127, 129, 200, 200, STEPS):
        pieces = pieces.until(upto, cores=1)
        assert pieces.steps == upto
    same(pieces, dataclasses.replace(run, numbers=(1,), worlds=run.worlds[1:2]))
    assert fingerprint(pieces) == fingerprint(dataclasses.replace(run, numbers=(1,), worlds=run.worlds[1:2]))


def test_on_other_cores_it_is_the_same(run: Evolution) -> None:
    told: list[tuple[int, int]] = []
    other = evolve(
        run.settings,
        worlds=3,
        steps=STEPS,
        seed=SEED,
        cores=2,
        progress=lambda made, whole: told.append((made, whole)),
    )
    same(other, run)
    assert told[-1] == (3 * STEPS, 3 * STEPS)


def test_another_seed_is_another_world(short_run: Evolution) -> None:
    other = evolve(worlds.FIRST, worlds=2, steps=140, seed=SEED + 1, cores=1)
    assert fingerprint(other) != fingerprint(short_run)
    assert not np.array_equal(other.worlds[0].key, short_run.worlds[0].key)


def test_twice_the_capacity_changes_nothing_while_there_is_room() -> None:
    crowded = dataclasses.replace(worlds.FIRST, conjugation=1.0, minimum=40)
    roomy = dataclasses.replace(crowded, capacity=2 * crowded.capacity)
    for seed in (1, 2):
        state = worlds.rich(crowded, np.random.default_rng(seed), share=0.3)
        wide = resized(state, roomy.capacity)
        for _ in range(3):
            state, log = worlds.run(crowded, state, worlds.key_of(seed), 40)
            wide, wide_log = worlds.run(roomy, wide, worlds.key_of(seed), 40)
            told = dict(zip(NUMBERS, log.numbers.sum(0).tolist(), strict=True))
            assert told["waiting"] == told["unmet"] == 0
            assert told["births"] > 0
            assert told["conjugations"] > 0
            worlds.same_bits((log.numbers, log.amounts), (wide_log.numbers, wide_log.amounts))
            worlds.same_bits(snapshot(state), resized(snapshot(wide), crowded.capacity))


@pytest.mark.slow
def test_a_program_for_half_the_places_makes_the_same_steps_and_hands_over_when_they_are_taken() -> None:
    boom = World1(width=128, capacity=1024, founders=380, food_influx=300.0, mutation_rate=0.5)
    run = evolve(boom, worlds=1, steps=200, seed=SEED, cores=1)
    sizes = running.Programs(boom, 1).sizes
    assert sizes == [512, 768, 1024]
    population = run.metrics["population"][0]
    # It starts in the half's places, and outgrows them within the first call.
    assert 380 + 64 < 512 < population[: running.CHUNK].max()
    start = evolve(boom, worlds=1, steps=0, seed=SEED).worlds[0]
    state, told = start.state, []
    for steps in (90, 38, 72):
        state, log = worlds.run(boom, state, start.key, steps)
        told.append(log.numbers)
    worlds.same_bits(snapshot(state), run.worlds[0].state)
    np.testing.assert_array_equal(np.concatenate(told), run.worlds[0].numbers)

    calm = dataclasses.replace(boom, food_influx=20.0)  # stays in the half
    run = evolve(calm, worlds=1, steps=150, seed=SEED, cores=1)
    assert run.metrics["population"].max() < 400
    start = evolve(calm, worlds=1, steps=0, seed=SEED).worlds[0]
    state, log = worlds.run(calm, start.state, start.key, 100)
    state, more = worlds.run(calm, state, start.key, 50)
    worlds.same_bits(snapshot(state), run.worlds[0].state)
    amounts = np.concatenate([log.amounts, more.amounts])
    worlds.same_bits(amounts, run.worlds[0].amounts)


# What a step's log says, and what the compiler made of the step.


def test_the_logs_bits_are_what_the_states_say() -> None:
    world = dataclasses.replace(worlds.FIRST, minimum=120, basal_cost=0.05, mutation_rate=0.0)
    state, key = worlds.rich(world, np.random.default_rng(1), share=0.7), worlds.key_of(1)
    born_in_all = 0
    for _ in range(60):
        after, log = worlds.run(world, state, key)
        died, divided, born = (
            np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
            for words in (log.died, log.divided, log.born)
        )
        told = dict(zip(NUMBERS, log.numbers[0].tolist(), strict=True))
        np.testing.assert_array_equal(after.alive, (state.alive & ~died) | born)
        assert not (died & ~state.alive).any()
        assert not (divided & ~(state.alive & ~died)).any()
        assert (died.sum(), divided.sum()) == (told["deaths"], told["births"])
        assert born.sum() == told["births"] + told["immigrants"]
        assert after.alive.sum() == told["population"]
        parents, places = np.flatnonzero(divided), np.flatnonzero(born)
        children = places[: len(parents)]  # the n-th child is the n-th parent's
        np.testing.assert_array_equal(after.genomes[children], after.genomes[parents])
        np.testing.assert_array_equal(after.x[children], after.x[parents])
        assert not after.tumbled[born].any()
        assert not after.emitted[born].any()
        born_in_all += len(places)
        state = after
    assert born_in_all > 50


def test_the_compiled_step_keeps_its_barriers_and_is_right_without_them() -> None:
    worlds.run(worlds.FIRST, worlds.rich(worlds.FIRST, np.random.default_rng(0)), worlds.key_of(0))
    program = running.compiled(worlds.FIRST.structure(), worlds.FIRST.capacity, 1)
    (kept,) = program.loaded[0].values()
    text: Any = kept.executable.as_text()
    assert text.count("opt-barrier") > 5

    key, knobs = worlds.key_of(2), worlds.FIRST.knobs()
    state = worlds.rich(worlds.FIRST, np.random.default_rng(2))
    arguments = (state, key, knobs, np.int32(worlds.FIRST.capacity))
    plain = jax.jit(make_step(worlds.FIRST)).lower(*arguments).compile()
    assert "opt-barrier" not in str(plain.as_text())  # so it is the option that keeps them
    compared = 0
    for seed in range(6):
        state = worlds.rich(worlds.FIRST, np.random.default_rng(seed))
        after, log = jax.tree.map(np.array, plain(state, *arguments[1:]))
        expected, tally = oracle.advance(oracle.plain(worlds.FIRST, state), worlds.FIRST, key)
        if not tally.close:
            compare(after, jax.tree.map(lambda rows: rows[None], log), expected, tally)
            compared += 1
    assert compared > 2


# Files.


def test_a_run_is_read_as_it_was_written(run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    save(run, path)
    again = load(path)
    same(again, run)
    assert (again.seconds, again.compiling) == (run.seconds, run.compiling)
    assert type(again.settings) is type(run.settings)
    assert load(path, run.settings).settings == run.settings


def test_a_run_goes_on_from_its_file_to_the_same_bits(run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    evolve(run.settings, worlds=3, steps=110, seed=SEED, out=path, cores=1)
    load(path).until(190, cores=1, out=path)
    half = load(path)
    assert half.steps == 190
    same(half.until(STEPS, cores=1), run)
    # Saved while some worlds were further than others.
    uneven = dataclasses.replace(half, worlds=(half.worlds[0], *run.worlds[1:]))
    save(uneven, path)
    assert load(path).steps == 190
    assert load(path).metrics["births"].shape == (3, 190)
    same(load(path).until(STEPS, cores=1), run)


def test_a_run_that_was_interrupted_goes_on_from_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.fairyring"
    whole = evolve(worlds.FIRST, worlds=6, steps=500, seed=SEED, cores=1)
    monkeypatch.setattr(evolution, "SAVED", 0.0)
    monkeypatch.setattr(evolution, "advance", functools.partial(running.advance, every=0.005))

    def interrupt(made: int, of: int) -> None:
        assert made <= of == 3000
        if made >= 500 and path.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve(worlds.FIRST, worlds=6, steps=500, seed=SEED, out=path, progress=interrupt, cores=1)
    saved = load(path)
    assert saved.steps < 500
    assert saved.seconds > 0  # so what was made so far has taken time
    assert saved.compiling > 0
    same(saved.until(500, cores=1), whole)


def test_a_file_that_is_there_is_not_run_over(short_run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    path.write_bytes(b"something")
    with pytest.raises(RunError, match="an existing file"):
        evolve(worlds.FIRST, worlds=1, steps=1, out=path)
    assert path.read_bytes() == b"something"
    with pytest.raises(RunError, match="no such file"):
        load(tmp_path / "other")
    with pytest.raises(StorageError):
        save(short_run, tmp_path / "no folder" / "run.fairyring")


def test_only_the_same_run_is_replaced(short_run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    other = evolve(worlds.FIRST, worlds=2, steps=0, seed=SEED + 1)
    in_the_way = {
        "seed 4, worlds 0, 1": other,
        "worlds 0$|worlds 0;": evolve(worlds.FIRST, worlds=1, steps=0, seed=SEED),
        "food_influx": dataclasses.replace(
            short_run, settings=dataclasses.replace(worlds.FIRST, food_influx=9.0)
        ),
        "more steps, 140": short_run,
        "not this run": None,
    }
    begun = evolve(worlds.FIRST, worlds=2, steps=0, seed=SEED)
    for told, there in in_the_way.items():
        if there is None:
            path.write_bytes(b"a thesis")
        else:
            save(there, path)
        before = path.read_bytes()
        with pytest.raises(RunError, match=told):
            begun.until(1, out=path, cores=1)
        assert path.read_bytes() == before
    save(begun, path)
    assert short_run.until(140, out=path, cores=1).steps == load(path).steps == 140


def test_a_crash_while_saving_leaves_the_old_file(
    short_run: Evolution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    before = path.read_bytes()
    later = short_run.until(150, cores=1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as broken:
            broken.setattr(f"os.{name}", full)
            with pytest.raises(StorageError, match="No space left"):
                save(later, path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
    save(later, path)
    assert load(path).steps == 150


def test_a_file_cut_short_anywhere_is_refused(short_run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 100, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunDamaged) as refused:
            load(path)
        assert refused.value.what == str(path)
        assert "Restore" in refused.value.do
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # a good file, and no run
    with pytest.raises(RunDamaged, match="KeyError"):
        load(path)
    path.write_bytes(whole.replace(b"[0]/state", b"[0]/stale").replace(b'"0/key"', b'"0/yek"'))
    with pytest.raises(RunDamaged):
        load(path)


def test_a_file_of_another_format_is_refused(
    short_run: Evolution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.fairyring"
    with monkeypatch.context() as later:
        later.setattr(run_file, "FORMAT", 3)
        save(short_run, path)
    with pytest.raises(
        RunMismatch, match=r"format 3, made by another version .* expected format 2"
    ) as refused:
        load(path)
    assert "Run it again" in refused.value.do


def _changed(path: Path, change: Callable[[dict[str, Any]], None], *, anew: bool = False) -> None:
    """Change a file's plain values; `anew`: with a digest that fits them, as another version would have written it."""
    facts, arrays = read_tensors(path, expected="", do="")
    change(facts)
    if anew:
        facts["sha256"] = run_file._digest(facts, arrays)
    path.write_bytes(tensors(arrays, facts))


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["settings"].update(food_influx=9.0),
        lambda facts: facts["settings"].update(mutation_rate=0.9),
        lambda facts: facts["settings"].update(capacity=192),
        lambda facts: facts["settings"].update(senses=["food"]),
        lambda facts: facts.update(seed=4),
        lambda facts: facts.update(seconds=0.001),
        lambda facts: facts.update(worlds=[1, 0]),
        lambda facts: facts.update(kind="v2"),
        lambda facts: facts.update(kind="v7"),
        lambda facts: facts.update(numbers=facts["numbers"][::-1]),
        lambda facts: facts.update(format="2"),
        lambda facts: facts.update(more=1),
        lambda facts: facts.pop("seed"),
        lambda facts: facts.pop("sha256"),
        lambda facts: facts.clear(),
    ],
)  # fmt: skip
def test_plain_values_that_were_changed_are_refused(
    short_run: Evolution, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    _changed(path, change)
    with pytest.raises(RunDamaged, match="Restore it from a copy") as refused:
        load(path)
    assert "Error" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda facts: facts["settings"].update(gravity=1.0), "a setting 'gravity'"),
        (lambda facts: facts["settings"].pop("memory"), "settings without 'memory'"),
        (lambda facts: facts["numbers"].append("eclipses"), "numbers differ in 'eclipses'"),
        (lambda facts: facts["amounts"].remove("eaten"), "amounts differ in 'eaten'"),
        (lambda facts: facts["numbers"].reverse(), "numbers differ in 'their order'"),
    ],
)
def test_what_another_version_would_have_written_is_refused(
    short_run: Evolution, tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    _changed(path, change, anew=True)
    with pytest.raises(RunMismatch, match=f"{told}, made by another version"):
        load(path)


def test_arrays_that_are_not_those_of_the_settings_are_refused(short_run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    for name, told in (("1/key", "no array '1/key'"), ("1/amounts", r"amounts as float32 \[140, 2\]")):
        save(short_run, path)
        facts, arrays = read_tensors(path, expected="", do="")
        rows = arrays.pop(name)
        if "amounts" in name:
            arrays[name] = rows[:, :2]
        facts["sha256"] = run_file._digest(facts, arrays)
        path.write_bytes(tensors(arrays, facts))
        with pytest.raises(RunDamaged, match=told):
            load(path)


def test_what_is_ones_own_is_in_a_file_by_name(tmp_path: Path) -> None:
    own_sense = Sense("energy", ("hungry", "sated"), lambda felt: felt.energy > 1)
    own_event = Event("crowded", lambda happened: happened.neighbours > 3)
    own_policy = dataclasses.replace(World1().policy, name="mine")
    small: dict[str, Any] = {"width": 16, "capacity": 64, "founders": 5, "minimum": 5}
    for n, settings in enumerate(
        (
            World1(senses=(LEVEL, own_sense), **small),
            World2(rewarded=(ALIVE, own_event, EAT), **small),
            World1(policy=own_policy, **small),
        )
    ):
        path = tmp_path / f"{n}.fairyring"
        run = evolve(settings, worlds=2, steps=0, out=path)
        with pytest.raises(
            RunMismatch,
            match=r"(sense 'energy'|event 'crowded'|policy 'mine'), which is not part of fairyring",
        ) as refused:
            load(path)
        assert "load(path, settings)" in refused.value.do
        same(load(path, settings), run)


def test_what_is_ones_own_is_so_under_a_standard_name_too(tmp_path: Path) -> None:
    small: dict[str, Any] = {"width": 16, "capacity": 64, "founders": 5, "minimum": 5}
    own_sense = dataclasses.replace(LEVEL, feel=lambda felt: (felt.energy > 1) * 2)
    for settings, standard, told in (
        (World1(senses=(own_sense,), **small), World1(senses=(LEVEL,), **small), "sense 'food'"),
        (
            World2(rewarded=(Event("alive", lambda happened: -happened.energy),), **small),
            World2(rewarded=(ALIVE,), **small),
            "event 'alive'",
        ),
        (
            World1(policy=dataclasses.replace(World1().policy, empty=lambda *_: ()), **small),
            World1(**small),
            "policy 'tables'",
        ),
    ):
        path = tmp_path / f"{told}.fairyring"
        run = evolve(settings, worlds=1, steps=0, out=path)
        with pytest.raises(RunMismatch, match=f"{told}, which is not part of fairyring"):
            load(path)
        with pytest.raises(RunMismatch, match="these custom parts: none"):
            load(path, standard)
        same(load(path, settings), run)
    two = dataclasses.replace(own_sense, labels=("a", "b"))
    with pytest.raises(RunMismatch, match=r"another form.*Pass the settings of the run"):
        load(tmp_path / "sense 'food'.fairyring", World1(senses=(two,), **small))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"food_influx": 4.0}, "food_influx 4.0"),
        ({"founders": 61}, "founders 61"),
        ({"dwell": False}, "dwell False"),
        ({"senses": (LEVEL,)}, "senses .'food'."),
        ({"control": "blind"}, "control 'blind'"),
        ({"width": 32}, "width 32"),
        ({"capacity": 192}, "capacity 192"),
    ],
)
def test_settings_that_are_not_the_runs_are_refused(
    short_run: Evolution, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    other: World = dataclasses.replace(short_run.settings, **changes)
    with pytest.raises(RunMismatch, match=f"settings with {named}"):
        load(path, other)


def test_columns_are_stored_under_their_first_names(short_run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    facts, _ = read_tensors(path, expected="", do="")
    assert facts["numbers"][NUMBERS.index("immigrants")] == "newcomers"
    assert "immigrants" in load(path).metrics


def test_settings_that_make_no_sense_any_more_are_damage(short_run: Evolution, tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    save(short_run, path)
    _changed(path, lambda facts: facts["settings"].update(speed=7.5), anew=True)
    with pytest.raises(RunDamaged, match=r"speed: given 7.5"):
        load(path)


def test_a_run_of_numpys_numbers_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "run.fairyring"
    evolve(World1(food_influx=np.float64(20), founders=3, minimum=2), worlds=1, steps=0, out=path)
    assert load(path).settings == World1(food_influx=20, founders=3, minimum=2)


@pytest.mark.parametrize(
    ("asked", "given_is"),
    [(0, "0"), (2.5, "2.5"), (True, "True"), ("3", "'3'"), ([1, 1], "[1, 1]"), ([], "[]")],
)
def test_worlds_are_one_or_more_different_numbers(asked: Any, given_is: str) -> None:
    with pytest.raises(EcologyError) as refused:
        evolve(worlds.FIRST, worlds=asked, steps=1)
    assert (refused.value.what, str(refused.value.given)) == ("worlds", given_is)


@pytest.mark.parametrize("value", [-1, 2**32, 10**20, 2.5, True, "x", None])
def test_a_seed_and_the_number_of_a_world_are_whole_numbers_that_fit_a_key(value: Any) -> None:
    for what, asked in (("seed", {"seed": value}), ("world", {"worlds": [value]})):
        with pytest.raises(EcologyError, match="a whole number from 0 to 4294967295") as refused:
            evolve(worlds.FIRST, **({"worlds": 1, "steps": 0} | asked))
        assert refused.value.what == what
    with pytest.raises(EcologyError, match="seed: given"):
        running.world_key(value, 0)


def test_a_seed_of_numpy_is_that_of_python(tmp_path: Path) -> None:
    settings, path = World1(width=16, capacity=64, founders=5, minimum=5), tmp_path / "run.fairyring"
    many, last = np.int64(2), np.uint32(2**32 - 1)
    evolve(settings, worlds=many, steps=np.int32(0), seed=last, out=path)  # pyright: ignore[reportArgumentType]
    same(load(path), evolve(settings, worlds=[0, 1], steps=0, seed=2**32 - 1))


@pytest.mark.parametrize("steps", [-1, 2.5, 2**31, "x"])
def test_steps_are_whole_numbers_from_none_on(short_run: Evolution, steps: Any) -> None:
    for asked in (lambda: evolve(worlds.FIRST, worlds=1, steps=steps), lambda: short_run.until(steps)):
        with pytest.raises(EcologyError, match=r"steps: given .*; expected a whole number from 0"):
            asked()
