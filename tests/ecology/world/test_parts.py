"""The step's parts by themselves: chance, selection, the grid, headings, logs and family trees, settings."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.extend.random import threefry_2x32
from scipy import stats

from fairyring.core.errors import EcologyError
from fairyring.ecology.history.lineage import Lineage
from fairyring.ecology.history.log import happenings
from fairyring.ecology.world import chance, grid, motion, selection
from fairyring.ecology.world import step as steps
from fairyring.ecology.world.events import OPTIONAL, STANDARD, Happened
from fairyring.ecology.world.policies import q_learning, tables
from fairyring.ecology.world.senses import LEVEL, Sensed
from fairyring.ecology.world.settings import World2

WORDS = hnp.arrays(np.uint32, st.integers(1, 6))
_THREEFRY = jax.jit(chance.threefry)
_FOLDED = jax.jit(chance.folded)
_FIRST = jax.jit(selection.first, static_argnums=1)
_DRAWN = jax.jit(selection.drawn, static_argnums=1)
_PACKED = jax.jit(selection.packed)
_SUM = jax.jit(steps._exact_sum, static_argnums=1)
_PASSED = jax.jit(steps._somebody_elses)
_TURNED = jax.jit(motion.turned)
_FELT = jax.jit(grid.felt)
_ACT = {policy: jax.jit(policy.act, static_argnums=3) for policy in (tables(), q_learning("rewards"))}


# Chance.


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_threefry_is_that_of_jax(one: int, other: int, start: int) -> None:
    first = np.uint32(start) + np.arange(8, dtype=np.uint32) * np.uint32(0x9E3779B9)
    second = ~first
    key = (np.uint32(one), np.uint32(other))
    ours = np.concatenate(_THREEFRY(key, first, second))
    theirs = threefry_2x32(jnp.array(key, jnp.uint32), jnp.asarray(np.concatenate([first, second])))
    np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_key_is_folded_as_jax_folds_it(seed: int, number: int) -> None:
    key = jax.random.key(seed)
    data = np.asarray(jax.random.key_data(key))
    ours = np.array(_FOLDED((data[0], data[1]), np.int32(number)))
    np.testing.assert_array_equal(ours, jax.random.key_data(jax.random.fold_in(key, number)))


def test_more_words_start_with_the_same_ones() -> None:
    key, words = (np.uint32(1), np.uint32(2)), jax.jit(chance.words, static_argnums=2)
    few, many = words(key, 3, 5), words(key, 3, 40)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:5])
    assert not np.array_equal(many[0], words(key, 4, 40)[0])


def test_words_become_numbers_below_one_and_normal_ones() -> None:
    ends = jnp.array([0, 2**32 - 1], jnp.uint32)
    assert chance.unit(ends, 24).tolist() == [0.0, 1 - 2.0**-24]
    assert chance.unit(ends, 16).tolist() == [0.0, 1 - 2.0**-16]
    low, high = chance.normal(ends).tolist()
    assert low == pytest.approx(stats.norm.ppf(2**-24), rel=1e-4)
    assert high == pytest.approx(-low, rel=1e-4)
    word = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32)
    exact = stats.norm.ppf((word >> 9) * 2.0**-23 + 2.0**-24)
    np.testing.assert_allclose(chance.normal(jnp.asarray(word)), exact, rtol=2e-5, atol=2e-6)


# Selection.


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, 160, elements=st.booleans()), st.sampled_from([0, 1, 2]))
def test_the_first_of_many_flags(flags: np.ndarray, kind: int) -> None:
    flags = flags if kind == 0 else flags | True if kind == 1 else flags & (np.arange(160) % 31 == 0)
    words = _PACKED(flags)
    found = np.flatnonzero(flags)[:64]
    expected = np.append(found, np.full(64 - len(found), 160))
    np.testing.assert_array_equal(_FIRST(words, 64), expected)
    assert int(selection.count(words)) == flags.sum()
    np.testing.assert_array_equal(np.unpackbits(np.asarray(words).view(np.uint8), bitorder="little"), flags)


def test_wide_selections_are_searched_and_narrow_ones_compared_to_the_same_places() -> None:
    flags = np.random.default_rng(1).random(32 * 200) < 0.05
    found = np.flatnonzero(flags)
    assert 256 < len(found) < 400
    for most in (64, 400):  # 200 words: below and above what is compared
        expected = np.append(found, np.full(most, len(flags)))[:most]
        np.testing.assert_array_equal(_FIRST(_PACKED(flags), most), expected)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.bool_, 160, elements=st.booleans()), st.integers(0, 64), st.integers(0, 2**24 - 1))
def test_flags_that_are_drawn_go_round_the_ring_of_them(flags: np.ndarray, room: int, word: int) -> None:
    found = np.flatnonzero(flags)
    chance = np.float32(word / 2**24)
    start = int(chance * np.float32(len(found)))
    served = np.sort(np.roll(found, -start)[:room]) if len(found) > room else found
    expected = np.append(served, np.full(64 - len(served), 160))
    np.testing.assert_array_equal(_DRAWN(_PACKED(flags), 64, np.int32(room), chance), expected)


def test_each_flag_is_drawn_as_often_wherever_it_is() -> None:
    flags = np.zeros(2048, bool)
    flags[[3, 4, 5, 40, 700, 701, 2047]] = True
    chance = ((np.arange(7000) + 0.5) / 7000).astype(np.float32)
    drawn = jax.vmap(selection.drawn, (None, None, None, 0))(_PACKED(flags), 64, np.int32(3), chance)
    counts = np.bincount(np.ravel(drawn), minlength=2049)[:2048]
    assert counts[flags].tolist() == [3000] * 7
    assert counts.sum() == 21_000


@pytest.mark.parametrize(
    ("capacity", "most"),
    [(2048, 1.0), (2048, 1100.0), (2048, 1e5), (4096, 4e4), (1 << 18, 1.0), (1 << 18, 3e4)],
)
def test_a_sum_of_energies_does_not_wrap_and_has_no_order(capacity: int, most: float) -> None:
    rng = np.random.default_rng(2)
    values = (rng.random(capacity) * most).astype(np.float32)
    values[: capacity // 2] = np.nextafter(np.float32(most), np.float32(0))  # all its bits are ones
    total = np.asarray(_SUM(values, capacity))
    assert float(total) == pytest.approx(values.astype(float).sum(), rel=1.3e-7)
    assert np.asarray(_SUM(rng.permutation(values), capacity)).tobytes() == total.tobytes()
    fewer, places = values * (np.arange(capacity) < capacity // 4 * 3), capacity // 4 * 3
    assert np.asarray(_SUM(fewer, capacity)).tobytes() == np.asarray(_SUM(fewer[:places], capacity)).tobytes()


# The grid.


@pytest.mark.parametrize("cells", [8, 14, 30, 63, 117, 128, 255])
def test_coordinates_stay_on_the_torus(cells: int) -> None:
    f = np.float32
    edges = [
        np.nextafter(f(cells), f(0)),
        np.nextafter(f(0), f(-1)),
        f(-1e-9),
        f(cells),
        f(cells + 0.5),
        f(0),
    ]
    x = np.concatenate([np.array(edges, f), np.random.default_rng(0).uniform(-1, cells + 1, 5000).astype(f)])
    y = np.asarray(jax.jit(grid.wrapped, static_argnums=1)(x, cells))
    assert (y >= 0).all()
    assert (y < cells).all()
    away = np.abs(y.astype(float) - x) % cells
    assert np.minimum(away, cells - away).max() < 1e-4


def test_what_leaves_a_cell_arrives_in_another() -> None:
    field = np.random.default_rng(1).random((16, 16)).astype(np.float32)
    after = np.asarray(jax.jit(grid.spread)(jnp.asarray(field), jnp.float32(0.02), jnp.float32(0.15)), float)
    assert after.sum() == pytest.approx(0.98 * field.sum(), rel=1e-6)
    around = sum(np.roll(field, turn, axis) for turn in (1, -1) for axis in (0, 1))
    np.testing.assert_allclose(after, field * (1 - 0.02 - 0.6) + 0.15 * around, rtol=1e-5)


def test_sources_give_all_they_have_wherever_they_are() -> None:
    places = jnp.array([[0.0, 0.0], [15.99, 8.0], [7.5, 7.5]])
    given_out = np.asarray(
        jax.jit(grid.influx, static_argnums=3)(places, jnp.float32(9), jnp.float32(2), 16), float
    )
    assert given_out.sum() == pytest.approx(9, rel=1e-5)
    one = np.asarray(
        jax.jit(grid.influx, static_argnums=3)(places[2:], jnp.float32(1), jnp.float32(2), 16), float
    )
    at = np.arange(16) + 0.5 - 7.5
    assert (one.sum(1) * at).sum() == pytest.approx(0, abs=2e-3)  # but for what goes round the torus
    assert (one.sum(1) * at**2).sum() == pytest.approx(4, rel=0.02)


def test_a_concentration_is_felt_between_the_centres_of_cells() -> None:
    field = jnp.asarray(np.random.default_rng(2).random((8, 8)), jnp.float32)
    centres = jnp.arange(8) + 0.5
    i, j = (v.ravel() for v in jnp.meshgrid(centres, centres, indexing="ij"))
    np.testing.assert_allclose(_FELT(field, i, j), field.ravel(), rtol=1e-6)
    corner = float(_FELT(field, jnp.array([0.0]), jnp.array([0.0]))[0])
    around = field[jnp.array([0, 0, 7, 7]), jnp.array([0, 7, 0, 7])]
    assert corner == pytest.approx(float(around.mean()), rel=1e-6)  # over the seam
    ramp = jnp.broadcast_to(centres[:, None], (8, 8))
    x = jnp.linspace(0.5, 7.5, 50)
    np.testing.assert_allclose(_FELT(ramp, x, x), x, rtol=1e-6)


def test_a_cell_has_a_number_row_by_row() -> None:
    x, y = jnp.array([0.0, 0.99, 7.999]), jnp.array([0.0, 1.0, 7.999])
    assert grid.cell(x, y, 8).tolist() == [0, 1, 63]


# Headings.


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 6.3), st.floats(-0.5, 0.99999))
def test_a_turn_is_a_rotation(angle: float, turn: float) -> None:
    ux, uy = _TURNED(np.float32(math.cos(angle)), np.float32(math.sin(angle)), np.float32(turn))
    then = angle + 2 * math.pi * turn
    assert (float(ux), float(uy)) == pytest.approx((math.cos(then), math.sin(then)), abs=1e-6)


def test_a_heading_keeps_its_length_over_a_life() -> None:
    turns = jnp.asarray(np.random.default_rng(3).random(20_000), jnp.float32)

    def one(u: Any, turn: Any) -> Any:
        return motion.turned(u[0], u[1], turn), 0

    (ux, uy), _ = jax.lax.scan(one, (jnp.float32(1), jnp.float32(0)), turns)
    assert math.hypot(float(ux), float(uy)) == pytest.approx(1, abs=1e-6)


# Blind observations.


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 64), st.integers(0, 2**32 - 1))
def test_blind_observations_are_those_of_others(seed: int, count: int, word: int) -> None:
    rng = np.random.default_rng(seed)
    alive = np.zeros(64, bool)
    alive[rng.permutation(64)[:count]] = True
    sensed = np.arange(64, dtype=np.int32)
    given_to = np.asarray(_PASSED((np.uint32(word), np.uint32(1)), sensed, alive))[alive]
    np.testing.assert_array_equal(np.sort(given_to), sensed[alive])  # each is still observed by one
    assert count < 2 or (given_to != sensed[alive]).all()


def test_blind_observations_come_from_each_other_as_likely() -> None:
    alive = np.arange(32) % 2 == 0
    pass_to = jax.jit(jax.vmap(steps._somebody_elses, (0, None, None)))
    keys = (np.arange(6000, dtype=np.uint32), np.full(6000, 5, np.uint32))
    first = np.asarray(pass_to(keys, np.arange(32, dtype=np.int32), alive))[:, 0]
    counts = np.bincount(first, minlength=32)[2::2]
    assert counts.sum() == 6000
    assert stats.chisquare(counts).pvalue > 1e-4


# Logs and family trees.


@dataclasses.dataclass
class Person:
    """Somebody, as a plain loop keeps it."""

    parent: int
    born: int
    died: int = -1


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[list[int], list[int], list[int]]]]:
    """Founders, and each step's deaths, parents and newborns by place, in a world of 64 places."""
    founders = draw(st.integers(0, 20))
    living, told = set(range(founders)), []
    for _ in range(draw(st.integers(1, 8))):
        died = sorted(p for p in living if draw(st.integers(0, 4)) == 0)
        living -= set(died)
        free = sorted(set(range(64)) - living)
        parents = sorted(p for p in living if draw(st.integers(0, 3)) == 0)[: len(free)]
        fresh = draw(st.integers(0, min(5, len(free) - len(parents))))
        born = free[: len(parents) + fresh]
        living |= set(born)
        told.append((died, parents, born))
    return founders, told


def _bits(places: list[list[int]]) -> np.ndarray:
    words = np.zeros((len(places), 2), np.uint32)
    for step, there in enumerate(places):
        for place in there:
            words[step, place // 32] |= np.uint32(1 << (place % 32))
    return words


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 4))
def test_a_family_tree_is_what_a_plain_list_of_people_says(
    history: tuple[int, list[tuple[list[int], list[int], list[int]]]], pieces: int
) -> None:
    founders, told = history
    people = [Person(-1, 0) for _ in range(founders)]
    holder = {place: place for place in range(founders)}
    counts = [len(holder)]
    living = dict(holder)
    for number, (died, parents, born) in enumerate(told, 1):
        for place in died:
            people[living.pop(place)].died = number
        ancestors = [living[place] for place in parents]
        for n, place in enumerate(born):
            people.append(Person(ancestors[n] if n < len(parents) else -1, number))
            living[place] = holder[place] = len(people) - 1
        counts.append(len(living))

    tree, made = Lineage.founded(founders, 64), 0
    for piece in np.array_split(np.arange(len(told)), pieces):
        if len(piece):
            died, parents, born = (_bits([told[i][k] for i in piece]) for k in range(3))
            tree = tree.after(happenings(made + 1, died, parents, born))
            made += len(piece)

    assert tree.parent.tolist() == [p.parent for p in people]
    assert tree.born.tolist() == [p.born for p in people]
    assert tree.died.tolist() == [p.died for p in people]
    assert tree.holder.tolist() == [holder.get(place, -1) for place in range(64)]

    lines: list[list[int]] = []
    for person in people:  # parents come before their children
        lines.append([] if person.parent < 0 else [person.parent, *lines[person.parent]])
    assert [tree.ancestors(uid) for uid in range(len(people))] == lines
    assert tree.generation().tolist() == [len(line) for line in lines]
    assert tree.founder().tolist() == [(line or [uid])[-1] for uid, line in enumerate(lines)]
    assert tree.offspring().tolist() == [sum(p.parent == uid for p in people) for uid in range(len(people))]
    ages = [p.died - p.born for p in people if p.died >= 0 and p.born > 1]
    assert tree.lifetime(after=1) == pytest.approx(np.mean(ages) if ages else math.nan, nan_ok=True)
    labels = np.arange(len(people)) % 3 - 1  # the first kind is not counted
    every = tree.count(np.zeros(len(people), int), len(told))
    assert every.reshape(-1, len(told) + 1).sum(0).tolist() == counts
    for upto in (len(told), len(told) // 2):
        for label, row in enumerate(tree.count(labels, upto)):
            kind = [p for uid, p in enumerate(people) if labels[uid] == label]
            there = [sum(p.born <= t and not 0 <= p.died <= t for p in kind) for t in range(upto + 1)]
            assert row.tolist() == there


# Policies.


def test_a_table_chooses_by_its_softmax() -> None:
    n, rng = 4000, np.random.default_rng(5)
    coin = jnp.asarray((np.arange(n) + 0.5) / n, jnp.float32)
    for actions in (2, 4):
        table = rng.normal(0, 1, 3 * actions).astype(np.float32)
        genomes = jnp.asarray(np.tile(table, (n, 1)))
        states = jnp.full(n, 1, jnp.int32)
        action, _ = _ACT[tables()](genomes, (), states, actions, coin, states, {"beta": jnp.float32(2)})
        odds = np.exp(2 * table[actions : 2 * actions])
        np.testing.assert_allclose(np.bincount(action, minlength=actions) / n, odds / odds.sum(), atol=1e-3)


def test_an_equal_choice_is_any_and_epsilon_is_the_share_of_random_ones() -> None:
    n = 4096
    spare, zero = jnp.arange(n, dtype=jnp.int32), jnp.zeros(n, jnp.int32)
    policy = q_learning("rewards")
    mind = policy.empty(n, 2, 4)
    knobs = {"gamma": jnp.float32(0.8), "alpha": jnp.float32(0.2), "epsilon": jnp.float32(0.25)}
    coin = jnp.asarray((np.arange(n) * 1237 % n + 0.5) / n, jnp.float32)
    action, _ = _ACT[policy](jnp.zeros((n, 1)), mind, zero, 4, coin, spare, knobs)
    np.testing.assert_allclose(np.bincount(action), n // 4, atol=8)
    sure = mind | {"values": mind["values"].at[:, 2].set(1.0)}
    action, after = _ACT[policy](jnp.zeros((n, 1)), sure, zero, 4, coin, spare, knobs)
    assert (np.asarray(action) == 2).mean() == pytest.approx(0.75 + 0.25 / 4, abs=0.02)
    np.testing.assert_array_equal(after["place"], action)
    np.testing.assert_array_equal(after["values"], sure["values"])  # there was no step before to learn from


@pytest.mark.parametrize("actions", [2, 4])
def test_each_of_several_best_actions_is_as_likely(actions: int) -> None:
    """All 4096 values of the spare bits, once each: what is chosen of every set of equals."""
    spare, zero = jnp.arange(4096, dtype=jnp.int32), jnp.zeros(4096, jnp.int32)
    policy = q_learning("rewards")
    mind = policy.empty(4096, 1, actions)
    knobs = {"gamma": jnp.float32(0.8), "alpha": jnp.float32(0.2), "epsilon": jnp.float32(0)}
    for best in range(1, 1 << actions):
        equals = [a for a in range(actions) if best >> a & 1]
        values = np.zeros((4096, actions), np.float32)
        values[:, equals] = 1
        action, _ = _ACT[policy](
            jnp.zeros((4096, 1)), mind | {"values": values}, zero, actions, spare / 4096, spare, knobs
        )
        counts = np.bincount(action, minlength=actions)
        assert counts[equals].sum() == 4096
        assert np.ptp(counts[equals]) <= 1  # no 4096 things can be shared more evenly


def test_an_unknown_heredity_is_refused() -> None:
    with pytest.raises(EcologyError, match=r"given 'darwin'; expected 'rewards', .*Choose"):
        q_learning("darwin")  # pyright: ignore[reportArgumentType]


def test_an_example_is_a_step_in_which_nothing_happens_but_what_is_given() -> None:
    knobs = World2().knobs()
    happening = {
        event.name
        for event in (*STANDARD, *OPTIONAL)
        if np.asarray(event.happens(Happened.example(knobs=knobs))).any()
    }
    assert happening == {"alive"}
    given = Happened.example(3, energy=np.array([0.1, 0.5, 1.6]), emitted=True, knobs=knobs)
    values = {event.name: np.asarray(event.happens(given)).tolist() for event in STANDARD}
    assert values["near death"] == [True, False, False]
    assert values["sated"] == [False, False, True]
    assert values["emitted"] == [True] * 3
    assert LEVEL.feel(Sensed.example(3, food=np.array([0.01, 0.1, 0.3]), knobs=knobs)).tolist() == [0, 1, 2]
    for kind in (Happened, Sensed):
        with pytest.raises(TypeError, match=f"{kind.__name__} has no field 'hunger'"):
            kind.example(hunger=1)
