"""What can be worked out on paper about a world: how it moves, spreads, pays, inherits and mutates."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from fairyring.ecology.history.evolution import evolve
from fairyring.ecology.world.settings import World1
from fairyring.ecology.world.state import AMOUNTS, NUMBERS, State, empty, snapshot
from tests.ecology import worlds

pytestmark = pytest.mark.optimised

# The formula holds for (tumbling after a rise, after a fall, after a tumble).
HABITS = ((0.1, 0.5, 0.3), (0.05, 0.5, 0.5), (0.02, 0.9, 0.1), (0.3, 0.3, 0.3))
DRIFTS = (0.3428, 0.4407, 0.5836, 0.0)

# A lab: food is the ramp x, which nobody eats and which stays as it is; each feels whether the last step led up or down.
RAMP = World1(
    width=128, capacity=1024, founders=1024, minimum=0, food_influx=0.0, food_decay=0.0, food_diffusion=0.0,
    turning=0.0, uptake_rate=0.0, basal_cost=0.0, conjugation=0.0, memory=1.0, change_threshold=0.0,
    level_low=0.0, level_high=0.0,
)  # fmt: skip
MIDDLE = RAMP.width / 2
SPEED = np.float32(RAMP.speed)


def drift(rising: float, falling: float, tumbled: float) -> float:
    """Share of its speed with which a run-and-tumble walk with a still step a tumble climbs a ramp."""
    return (1 / rising - 1 / falling) / np.pi / ((1 / rising + 1 / falling) / 2 + 1 / (1 - tumbled))


def habitual(habits: tuple[tuple[float, float, float], ...]) -> State:
    """Everybody in the middle of the ramp, with tables that make it tumble with the probabilities of its habit."""
    n, kinds = RAMP.capacity, len(habits)
    genomes = np.zeros((n, 3, 3, 2), np.float32)
    for k, (rising, falling, flat) in enumerate(habits):
        p = np.array([falling, flat, rising])
        genomes[k::kinds, 2, :, 1] = np.log(p / (1 - p)) / RAMP.beta
    angle = np.random.default_rng(0).random(n) * 2 * np.pi
    state, one = empty(RAMP, n), np.ones(n, np.float32)
    ramp = np.repeat(np.arange(RAMP.width, dtype=np.float32)[:, None] + np.float32(0.5), RAMP.width, 1)
    return state._replace(
        fields={"food": ramp},
        alive=one > 0,
        x=one * MIDDLE,
        y=one * MIDDLE,
        ux=np.cos(angle).astype(np.float32),
        uy=np.sin(angle).astype(np.float32),
        energy=one,
        memory=one * MIDDLE,
        genomes=genomes.reshape(n, -1),
    )


def recentred(state: State) -> State:
    """Everybody back in the middle, by whole cells: what matters of a ramp is the same everywhere."""
    away = np.round(state.x - MIDDLE).astype(np.float32)
    return state._replace(x=state.x - away, memory=state.memory - away)


def test_the_ramps_numbers_are_those_of_the_formula() -> None:
    assert [drift(*habit) for habit in HABITS] == pytest.approx(DRIFTS, abs=6e-5)


def test_run_and_tumble_climbs_a_ramp_as_fast_as_the_formula_says() -> None:
    state, key, chunk, kinds = habitual(HABITS), worlds.key_of(1), 96, len(HABITS)
    gone = np.zeros(RAMP.capacity)
    steps = 40 * chunk
    for i in range(41):
        state = recentred(state)
        before = state.x.astype(float)
        state, _ = worlds.run(RAMP, state, key, chunk)
        assert np.abs(state.x - MIDDLE).max() < MIDDLE - 2  # nobody reached the seam
        if i > 0:  # the first stretch is for forgetting the start
            gone += state.x - before
    for k, habit in enumerate(HABITS):
        each = gone[k::kinds] / steps / RAMP.speed
        error = each.std(ddof=1) / np.sqrt(len(each))
        assert error < 0.008
        assert each.mean() == pytest.approx(drift(*habit), abs=4 * error)


def test_runs_are_geometric_with_the_means_that_their_probabilities_say() -> None:
    habits = ((0.1, 0.5, 0.3), (0.25, 0.6, 0.0625))
    state, key, steps, longest = habitual(habits), worlds.key_of(2), 400, 24
    tumbled, upward = [], []
    for i in range(steps):
        if i % 96 == 0:
            state = recentred(state)
        state, log = worlds.run(RAMP, state, key)
        assert log.numbers[0, NUMBERS.index("tumbles")] == state.tumbled.sum()
        tumbled.append(state.tumbled)
        upward.append(state.ux > 0)
    tumbles, up = np.array(tumbled), np.array(upward)
    for k, (rising, falling, flat) in enumerate(habits):
        t, u = tumbles[:, k::2], up[:, k::2]
        # A run starts with the first step that is none after a tumble; it is followed to its end or `longest`.
        starts = np.argwhere(t[:-1] & ~t[1:]) + np.array([1, 0])
        starts = starts[starts[:, 0] < steps - longest]
        lengths = np.array([np.append(t[i : i + longest, j], True).argmax() for i, j in starts])
        headed = u[starts[:, 0], starts[:, 1]]
        for p, seen in ((rising, lengths[headed]), (falling, lengths[~headed])):
            upto = min(longest, int(np.log(20 / len(seen)) / np.log(1 - p)))  # each bin expects some
            counts = np.bincount(np.minimum(seen, upto), minlength=upto + 1)[1:]
            odds = p * (1 - p) ** np.arange(upto)
            odds[-1] = (1 - p) ** (upto - 1)
            assert counts.sum() > 2000
            assert stats.chisquare(counts, odds * counts.sum()).pvalue > 1e-4
            if upto < longest:
                assert seen[seen < longest].mean() == pytest.approx(1 / p, rel=0.05)
        after = t[1:][t[:-1]]  # what follows a tumble: another one, or a run
        assert stats.binomtest(int(after.sum()), after.size, flat).pvalue > 1e-4


def test_a_tumble_ends_in_any_direction_and_a_run_turns_by_its_diffusion() -> None:
    world = dataclasses.replace(RAMP, turning=0.01)
    state = habitual(((0.5, 0.5, 0.5),))
    after, _ = worlds.run(world, state, worlds.key_of(3))
    turn = np.angle((after.ux + 1j * after.uy) / (state.ux + 1j * state.uy))
    tumbled = after.tumbled
    assert stats.kstest(turn[tumbled], stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4
    swerve = turn[~tumbled]
    assert np.abs(swerve.mean()) < 4 * np.sqrt(2 * world.turning / len(swerve))
    assert swerve.var() == pytest.approx(2 * world.turning, rel=0.2)
    moved = np.hypot(after.x - state.x, after.y - state.y)
    assert (moved[tumbled] == 0).all()  # it dwells
    np.testing.assert_allclose(moved[~tumbled], world.speed, rtol=1e-4)


def test_a_point_spreads_with_variance_2_d_t_and_fades_by_its_decay() -> None:
    world = dataclasses.replace(
        worlds.FIRST, minimum=0, food_influx=0.0, food_decay=0.03, food_diffusion=0.11
    )
    state, steps = empty(world, world.capacity), 7  # fewer than reach round the torus
    state.fields["food"][8, 8] = 1
    after, log = worlds.run(world, state, worlds.key_of(4), steps)
    food = after.fields["food"].astype(float)
    masses = [1.0, *log.amounts[:, AMOUNTS.index("food")].astype(float)]
    np.testing.assert_allclose(np.divide(masses[1:], masses[:-1]), 1 - 0.03, rtol=1e-6)
    place = np.arange(16) - 8
    for axis in (0, 1):
        marginal = food.sum(axis) / food.sum()
        # Of what is left in a step, the share D / (1 - k) goes to each neighbour.
        assert (marginal * place).sum() == pytest.approx(0, abs=1e-6)
        assert (marginal * place**2).sum() == pytest.approx(2 * 0.11 / 0.97 * steps, rel=1e-5)
    plain = dataclasses.replace(world, food_decay=0.0)
    after, _ = worlds.run(plain, state, worlds.key_of(4), steps)
    food = after.fields["food"].astype(float)
    assert food.sum() == pytest.approx(1, rel=1e-6)
    assert ((food.sum(0)) * place**2).sum() == pytest.approx(2 * 0.11 * steps, rel=1e-5)


@pytest.mark.parametrize("settings", [worlds.FIRST, worlds.SECOND], ids=["world 1", "world 2"])
def test_energy_closes(settings: World1) -> None:
    """Injected = decayed + metabolised + change of stock, of food and in bacteria; the dead have none left."""
    world = dataclasses.replace(settings, minimum=60, basal_cost=0.04, food_influx=3.0)
    run = evolve(world, worlds=2, steps=600, seed=5, cores=1)
    start = world.founders * world.start_energy
    for n in range(2):
        told = {name: rows[n].astype(float) for name, rows in run.metrics.items()}
        assert told["deaths"].sum() > 50
        assert told["births"].sum() > 5
        assert told["immigrants"].sum() > 0
        food0 = world.food_influx / world.food_decay
        food = np.concatenate([[food0], told["food"]])
        energy = np.concatenate([[start], told["energy"]])
        injected = world.food_influx * run.steps + told["immigrants"].sum() * world.start_energy
        decayed = world.food_decay * food[:-1].sum()
        lost = decayed + told["metabolised"].sum() + (food[-1] - food0) + (energy[-1] - energy[0])
        assert lost == pytest.approx(injected, rel=1e-5)
        # The two halves of it, of each step: what is eaten leaves the food and enters bacteria.
        np.testing.assert_allclose(
            food[1:], food[:-1] * (1 - world.food_decay) + world.food_influx - told["eaten"], rtol=3e-6
        )
        gained = told["eaten"] - told["metabolised"] + told["immigrants"] * world.start_energy
        np.testing.assert_allclose(energy[1:], energy[:-1] + gained, rtol=3e-6, atol=1e-4)
        if "signal" in run.worlds[n].state.fields:
            signal = np.concatenate([[0.0], told["signal"]])
            np.testing.assert_allclose(
                signal[1:], signal[:-1] * 0.95 + told["deposited"], rtol=1e-5, atol=1e-5
            )


def test_a_gene_that_is_taken_over_is_one_entry_of_somebody_in_the_same_cell() -> None:
    world = dataclasses.replace(worlds.FIRST, conjugation=1.0, minimum=0, division_energy=1e6, basal_cost=0.0)
    state = worlds.rich(worlds.FIRST, np.random.default_rng(6), share=0.35)
    after, log = worlds.run(world, state, worlds.key_of(6))
    told = dict(zip(NUMBERS, log.numbers[0].tolist(), strict=True))
    changed = after.genomes != state.genomes
    assert told["unmet"] == 0
    assert told["conjugations"] == told["meetings"] == changed.any(1).sum() > 15
    assert (changed.sum(1) <= 1).all()
    givers = set()
    cell = after.x.astype(int) * world.width + after.y.astype(int)
    for taker, entry in np.argwhere(changed):
        peers = np.flatnonzero(state.alive & (cell == cell[taker]))
        given = peers[state.genomes[peers, entry] == after.genomes[taker, entry]]
        assert len(given) == 1
        givers.add((cell[taker], given[0]))
    assert len(givers) == len({place for place, _ in givers})  # one representative a cell
    assert len({entry for _, entry in np.argwhere(changed)}) > 6  # of 18


def births(**numbers: float) -> tuple[State, State, np.ndarray, np.ndarray]:
    """A state in which 48 divide, the state after it, its parents and its children."""
    world = dataclasses.replace(worlds.FIRST, conjugation=0.0, minimum=0, **numbers)
    state = worlds.rich(world, np.random.default_rng(7), share=0.5)
    alive = np.flatnonzero(state.alive)[:48]
    energy = np.where(np.isin(np.arange(world.capacity), alive), 5.0, 1.0).astype(np.float32)
    state = state._replace(energy=energy)
    after, log = worlds.run(world, state, worlds.key_of(7))
    bits = np.unpackbits(log.born.view(np.uint8), bitorder="little")
    assert log.numbers[0, NUMBERS.index("births")] == 48
    return state, after, alive, np.flatnonzero(bits)


def test_a_child_is_its_parent_and_both_have_half() -> None:
    _, after, parents, children = births(mutation_rate=0.0)
    for name in ("x", "y", "energy", "memory", "genomes"):
        rows = getattr(after, name)
        np.testing.assert_array_equal(rows[children], rows[parents])
    assert (after.energy[parents] < 2.6).all()
    heading = np.arctan2(after.uy, after.ux)
    assert (heading[children] != heading[parents]).all()
    assert stats.kstest(heading[children], stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4


def test_mutations_have_their_rate_and_scale() -> None:
    _, after, parents, children = births(mutation_rate=0.3, mutation_scale=0.25)
    moved = (after.genomes[children] - after.genomes[parents]).ravel()
    hit = np.abs(moved) > 1e-7
    assert stats.binomtest(int(hit.sum()), hit.size, 0.3).pvalue > 1e-4
    assert stats.kstest(moved[hit], stats.norm(0, 0.25).cdf).pvalue > 1e-4


def test_a_child_keeps_the_share_of_its_parents_values_that_it_is_told_to() -> None:
    world = dataclasses.replace(worlds.SECOND, retention=0.3, minimum=0, mutation_rate=0.0)
    state = worlds.rich(world, np.random.default_rng(8), share=0.5)
    after, log = worlds.run(world, state, worlds.key_of(8))
    parents, children = (
        np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        for words in (log.divided, log.born)
    )
    assert len(parents) == len(children) > 5
    mind = after.mind
    np.testing.assert_allclose(mind["values"][children], mind["values"][parents] * 0.3, rtol=1e-6)
    assert (mind["place"][children] == -1).all()
    assert (mind["reward"][children] == 0).all()
    assert np.abs(mind["values"][parents]).max() > 1


def unrelated(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a correlation is within four standard errors of none."""
    return abs(float(np.corrcoef(one, other)[0, 1])) < 4 / len(one) ** 0.5


def test_scrambled_children_have_nothing_of_their_parents() -> None:
    world = dataclasses.replace(worlds.REWARDS_SCRAMBLED, minimum=0, mutation_rate=0.0, conjugation=0.0)
    pairs = []
    for seed in range(12):
        state = worlds.rich(world, np.random.default_rng(seed), share=0.5)
        after, log = worlds.run(world, state, worlds.key_of(seed))
        parents, children = (
            np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
            for words in (log.divided, log.born)
        )
        pairs.append(np.stack([after.genomes[parents], after.genomes[children]], -1).reshape(-1, 2))
        assert (after.mind["values"][children] == 0).all()
    pairs = np.concatenate(pairs)
    assert len(pairs) > 1000
    assert stats.kstest(pairs[:, 1], stats.norm.cdf).pvalue > 1e-4
    assert unrelated(pairs[:, 0], pairs[:, 1])


def test_the_dummy_event_depends_on_nothing() -> None:
    """Its reward alone is on: what reaches the learner says how often it happens, and to whom."""
    world = dataclasses.replace(worlds.SECOND, minimum=0, mutation_rate=0.0, conjugation=0.0)
    dummy = [event.name for event in world.events].index("dummy")
    state = worlds.rich(world, np.random.default_rng(9), share=0.4)
    genomes = np.zeros_like(state.genomes)
    genomes[:, dummy] = 1
    state = state._replace(genomes=genomes)
    seen = []
    for _ in range(60):
        after, _ = worlds.run(world, state, worlds.key_of(9))
        same = (
            state.alive & after.alive & (after.mind["place"] >= 0)
        )  # newborns have not yet been through a step
        what = [
            after.energy, after.memory, after.tumbled, after.emitted, after.ux, state.mind["reward"],
            np.arange(world.capacity), after.energy > state.energy,
        ]  # fmt: skip
        seen.append(np.stack([after.mind["reward"], *what], 1)[same].astype(float))
        state = snapshot(after)
    rows = np.concatenate(seen)
    assert len(rows) > 2000
    assert set(np.unique(rows[:, 0])) == {-1.0, 0.0, 1.0}
    for value in (-1, 1):
        assert stats.binomtest(int((rows[:, 0] == value).sum()), len(rows), 0.05).pvalue > 1e-4
    for column in rows[:, 1:].T:
        assert unrelated(rows[:, 0], column)


@pytest.mark.parametrize("control", ["none", "scrambled"])
def test_no_reward_for_the_dummy_event_evolves(control) -> None:
    world = dataclasses.replace(worlds.SECOND, mutation_rate=0.3, control=control)
    run = evolve(world, worlds=40, steps=300, seed=13, cores=1)
    dummy = [event.name for event in run.settings.events].index("dummy")
    means = [inhabited.genomes()[:, dummy].mean() for inhabited in run.worlds]
    assert run.metrics["births"].sum() > 1000
    assert np.std(means) > 0.05  # it drifts
    assert abs(np.mean(means)) < 3.5 * np.std(means) / np.sqrt(len(means))


def test_immigrants_come_up_to_the_minimum_and_parents_wait_when_all_places_are_taken() -> None:
    world = dataclasses.replace(worlds.FIRST, minimum=90, conjugation=0.0)
    nobody = empty(world, world.capacity)
    after, log = worlds.run(world, nobody, worlds.key_of(10), 2)
    assert log.numbers[:, NUMBERS.index("immigrants")].tolist() == [64, 26]  # at most 64 a step
    assert after.alive.sum() == 90
    assert after.alive[:90].all()
    newest = after.genomes[:64].ravel()
    assert stats.kstest(newest, stats.norm.cdf).pvalue > 1e-4
    assert stats.kstest(after.x[64:90] / world.width, stats.uniform.cdf).pvalue > 1e-4

    full = worlds.rich(world, np.random.default_rng(10), share=1.0)
    full = full._replace(energy=np.full(world.capacity, 3, np.float32))
    after, log = worlds.run(world, full, worlds.key_of(10))
    told = dict(zip(NUMBERS, log.numbers[0].tolist(), strict=True))
    assert (told["births"], told["waiting"], told["delayed"], told["population"]) == (0, 160, 0, 160)
    assert (after.energy > 2.9).all()  # who waits keeps what it has


def test_the_dead_do_nothing() -> None:
    """Whatever a place holds that nobody lives in, the living and the fields never feel it."""
    world = dataclasses.replace(worlds.SECOND, minimum=0)
    rng = np.random.default_rng(11)
    state = worlds.rich(world, rng, share=0.4)
    dead = ~state.alive

    def haunted(rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows[dead] = rng.permutation(rows[state.alive])[rng.integers(0, state.alive.sum(), dead.sum())]
        return rows

    names = ("x", "y", "ux", "uy", "energy", "memory", "tumbled", "emitted", "genomes")
    ghosts = state._replace(
        **{name: haunted(getattr(state, name)) for name in names},
        mind={name: haunted(rows) for name, rows in state.mind.items()},
    )
    one, log = worlds.run(world, state, worlds.key_of(11), 20)
    other, same_log = worlds.run(world, ghosts, worlds.key_of(11), 20)
    assert log.numbers[:, NUMBERS.index("births")].sum() > 0
    for a, b in zip(log, same_log, strict=True):
        np.testing.assert_array_equal(a, b)
    worlds.same_bits(snapshot(one), snapshot(other))
