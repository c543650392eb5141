"""One step of a world in plain loops, from what the settings and the events say: what the compiled step is held against.

A world here is dictionaries and lists: the fields as rows of numbers, and each bacterium a `Cell` in its place. All
arithmetic is in float64. Chance is the engine's, by its addresses, so both make the same step; where a decision hangs
on less than float32 can tell, the step is called close and nobody compares it.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from fairyring.ecology.world import chance, step
from fairyring.ecology.world.settings import World
from fairyring.ecology.world.state import State
from tests.ecology.oracle_minds import Cell, Tally, by_table, first_values, happened, learned, sensed

_WORDS = 1 << 13

_folded = jax.jit(chance.folded)
_words = jax.jit(chance.words, static_argnums=2)


@dataclass
class Plain:
    """A world."""

    step: int
    fields: dict[str, list[list[float]]]
    sources: list[tuple[float, float]]
    cells: dict[int, Cell]


class Chance:
    """The random words of one step."""

    def __init__(self, key: np.ndarray, number: int) -> None:
        self.key = _folded((key[0], key[1]), np.int32(number))
        self.known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def pair(self, purpose: int, place: int) -> tuple[int, int]:
        if purpose not in self.known:
            one, other = _words(self.key, np.uint32(purpose), _WORDS)
            self.known[purpose] = np.asarray(one), np.asarray(other)
        one, other = self.known[purpose]
        return int(one[place]), int(other[place])


def unit(word: int, bits: int) -> float:
    return (word >> (32 - bits)) / 2**bits


def normal(word: int) -> float:
    return NormalDist().inv_cdf((word >> 9) / 2**23 + 1 / 2**24)


def plain(settings: World, state: State) -> Plain:
    """An engine's state as one reads it."""
    cells = {}
    for place in np.flatnonzero(state.alive):
        c = Cell(
            x=float(state.x[place]),
            y=float(state.y[place]),
            angle=math.atan2(state.uy[place], state.ux[place]),
            energy=float(state.energy[place]),
            memory=float(state.memory[place]),
            genome=[float(g) for g in state.genomes[place]],
            tumbled=bool(state.tumbled[place]),
            emitted=bool(state.emitted[place]),
        )
        if state.mind:
            c.values = state.mind["values"][place].reshape(settings.states, settings.actions).tolist()
            entry = int(state.mind["place"][place])
            c.last = None if entry < 0 else divmod(entry, settings.actions)
            c.reward = float(state.mind["reward"][place])
        cells[int(place)] = c
    return Plain(
        step=int(state.step),
        fields={name: rows.tolist() for name, rows in state.fields.items()},
        sources=[(float(x), float(y)) for x, y in state.places],
        cells=cells,
    )


def advance(world: Plain, settings: World, key: np.ndarray, *, heredity: str = "") -> tuple[Plain, Tally]:
    """The world a step later; `heredity` where it learns."""
    s, size, tally = settings, settings.width, Tally()
    luck = Chance(key, world.step)
    knob = {name: value.item() for name, value in settings.knobs().items()}
    learns = bool(settings.events)

    # Sources, spreading, decay.
    sources = []
    for k, at in enumerate(world.sources):
        if tally.less(unit(luck.pair(step.JUMP, k)[0], 24) * knob["source_lifetime"], 1):
            at = tuple(unit(word, 24) * size for word in luck.pair(step.LANDING, k))
        sources.append(at)
    fields = {
        name: _spread(rows, knob[f"{name}_decay"], knob[f"{name}_diffusion"])
        for name, rows in world.fields.items()
    }
    for at in sources:
        _pour(fields["food"], at, knob["food_influx"] / len(sources), knob["source_spread"])

    # Sensing: all that is felt is felt before anybody acts.
    order = sorted(world.cells)
    felt: dict[int, dict[str, float]] = {}
    observed = {}
    for place in order:
        c = world.cells[place]
        food = _between(fields["food"], c.x, c.y)
        feels = {"food": food, "change": (food - c.memory) / (food + c.memory + 1e-3), "signal": 0.0}
        if "signal" in fields:
            feels["signal"] = _between(fields["signal"], c.x, c.y)
        felt[place] = feels
        observed[place] = sensed(s, knob, feels, tally)
    if s.control == "blind" and len(order) > 1:
        turn = 1 + tally.whole(unit(luck.pair(step.SHUFFLE, 0)[0], 24) * (len(order) - 1))
        observed = {p: observed[order[(i + turn) % len(order)]] for i, p in enumerate(order)}

    # Learning, choosing, moving.
    after: dict[int, Cell] = {}
    fresh_luck = {}
    for place in order:
        c, (first, second) = world.cells[place], luck.pair(step.CHOICE, place)
        coin, fresh_luck[place] = unit(first, 20), unit(second, 16)
        values, last = [list(row) for row in c.values], c.last
        if learns:
            third, fourth = luck.pair(step.LEARNING, place)
            coin, fresh_luck[place] = unit(third, 20), unit(fourth, 24)
            action = learned(values, c, observed[place], third & 0xFFF, coin, knob, tally)
            last = (observed[place], action)
        else:
            action = by_table(c.genome, observed[place], s.actions, coin, knob["beta"], tally)
        tumbled, emitted = action % 2 == 1, action >= 2
        if tumbled:
            angle = c.angle + 2 * math.pi * unit(second, 16)
        else:
            angle = c.angle + (unit(second, 16) - 0.5) * math.sqrt(24 * knob["turning"])
        x, y = c.x, c.y
        if not (tumbled and s.dwell):
            x = (x + knob["speed"] * math.cos(angle)) % size
            y = (y + knob["speed"] * math.sin(angle)) % size
            for at in (x, y):  # which cell it is in
                tally.whole(at)
        memory = c.memory + (felt[place]["food"] - c.memory) / knob["memory"]
        after[place] = Cell(
            x, y, angle, c.energy, memory, list(c.genome), tumbled, emitted, values, last, c.reward
        )

    # Emitting, eating by share.
    crowd: dict[tuple[int, int], list[int]] = {}
    for place in order:
        crowd.setdefault((int(after[place].x), int(after[place].y)), []).append(place)
    uptake, eaten, metabolised, deposited = {}, 0.0, 0.0, 0.0
    for (i, j), inside in crowd.items():
        there = fields["food"][i][j]
        demand = min(knob["uptake_rate"] * there, knob["uptake_limit"])
        share = min(1.0, there / (demand * len(inside))) if demand > 0 else 1.0
        for place in inside:
            uptake[place] = demand * share
            eaten += demand * share
            if after[place].emitted and "signal" in fields:
                fields["signal"][i][j] += knob["emission"]
                deposited += knob["emission"]
        fields["food"][i][j] = there - demand * share * len(inside)

    # Energy.
    for place in order:
        c = after[place]
        bill = knob["basal_cost"] + (knob["emission_cost"] if c.emitted else 0.0)
        held = c.energy + uptake[place]
        paid = bill if tally.less(bill, held) else held
        c.energy = held - paid
        metabolised += paid

    # Meeting: the others of a cell meet its representative, and may take over an entry of its genome.
    tie, lucky = luck.pair(step.TIE, 0)
    mask, few = tie % 2 ** (s.capacity - 1).bit_length(), max(64, s.capacity // 32)
    takers, meetings = [], 0
    for inside in crowd.values():
        chosen = max(inside, key=lambda p: (luck.pair(step.CHOICE, p)[0] & 0xFFF, p ^ mask))
        for place in inside:
            if place != chosen:
                meetings += 1
                if (luck.pair(step.CHOICE, place)[1] & 0xFFFF) / 2**16 < knob["conjugation"]:
                    takers.append((place, chosen))
    takers.sort()
    given = []
    for n, (taker, giver) in enumerate(served(takers, few, unit(lucky, 24))):
        entry = tally.whole(unit(luck.pair(step.ENTRY, n)[0], 24) * s.genes)
        given.append((taker, entry, after[giver].genome[entry]))
    for taker, entry, gene in given:
        after[taker].genome[entry] = gene

    # Deaths.
    tally.died = [p for p in order if after[p].energy <= 0]
    gone = {p: after.pop(p) for p in tally.died}
    died_in: dict[tuple[int, int], int] = {}
    for c in gone.values():
        died_in[int(c.x), int(c.y)] = died_in.get((int(c.x), int(c.y)), 0) + 1

    # Births, then immigrants, in the lowest free places.
    living = len(after)
    free = [p for p in range(s.capacity) if p not in after]
    ready = [p for p in order if p in after and not tally.less(after[p].energy, knob["division_energy"])]
    room = min(len(free), few)
    tally.divided = served(ready, room, unit(lucky, 24))
    immigrants = min(max(knob["minimum"] - living - len(tally.divided), 0), room - len(tally.divided))
    children = {}
    for n, parent in enumerate(tally.divided):
        p = after[parent]
        p.energy /= 2
        child = _fresh(s, luck, n, p.x, p.y, p.energy, p.memory)
        if s.control != "scrambled":
            child.genome = [_mutated(gene, luck, n * s.genes + g, knob) for g, gene in enumerate(p.genome)]
        if learns:
            child.values = first_values(s, child.genome, p.values, heredity, knob)
        children[free[n]] = child
    for n in range(len(tally.divided), len(tally.divided) + immigrants):
        x, y = (unit(word, 24) * size for word in luck.pair(step.PLACE, n))
        child = _fresh(s, luck, n, x, y, knob["start_energy"], 0.0)
        if learns:
            nothing = [[0.0] * s.actions for _ in range(s.states)]
            child.values = first_values(s, child.genome, nothing, heredity, knob)
        children[free[n]] = child

    # Rewards, of those who lived through the step.
    for place, c in after.items():
        if learns:
            cell = (int(c.x), int(c.y))
            c.reward = 0.0
            for gene, event in zip(c.genome, s.events, strict=False):
                c.reward += gene * happened(
                    event.name, c, felt[place], uptake[place], fresh_luck[place], knob, tally,
                    others=len(crowd[cell]) - 1, deaths=died_in.get(cell, 0), divided=place in tally.divided,
                )  # fmt: skip

    tally.born = sorted(children)
    tally.numbers = {
        "population": living + len(children),
        "births": len(tally.divided),
        "deaths": len(tally.died),
        "immigrants": immigrants,
        "waiting": max(len(ready) - len(free), 0),
        "delayed": max(min(len(ready), len(free)) - few, 0),
        "meetings": meetings,
        "conjugations": min(len(takers), few),
        "unmet": max(len(takers) - few, 0),
        "tumbles": sum(c.tumbled for c in (*after.values(), *gone.values())),
        "emitters": sum(c.emitted for c in (*after.values(), *gone.values())),
        "short": 0,
    }
    after |= children
    tally.amounts = {
        "food": sum(map(sum, fields["food"])),
        "signal": sum(map(sum, fields.get("signal", []))),
        "eaten": eaten,
        "metabolised": metabolised,
        "energy": sum(c.energy for c in after.values()),
        "deposited": deposited,
    }
    return Plain(world.step + 1, fields, sources, after), tally


def served(ready: list[Any], room: int, chance: float) -> list[Any]:
    """All, or as many as there is room for: round the ring of them from a drawn one on, told in their own order."""
    if len(ready) <= room:
        return ready
    start = math.floor(chance * len(ready))
    return sorted(ready[(start + n) % len(ready)] for n in range(room))


def _spread(rows: list[list[float]], decay: float, diffusion: float) -> list[list[float]]:
    """What stays in each cell, and what each cell hands to its four neighbours."""
    size = len(rows)
    out = [[value * (1 - decay - 4 * diffusion) for value in row] for row in rows]
    for i in range(size):
        for j in range(size):
            for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                out[(i + di) % size][(j + dj) % size] += diffusion * rows[i][j]
    return out


def _pour(rows: list[list[float]], at: tuple[float, float], amount: float, width: float) -> None:
    """A Gaussian's worth of food about a place, by the nearest way round the torus."""
    size = len(rows)

    def away(i: int, x: float) -> float:
        return min(abs(i + 0.5 - x), size - abs(i + 0.5 - x))

    bell = {
        (i, j): math.exp(-(away(i, at[0]) ** 2 + away(j, at[1]) ** 2) / (2 * width**2))
        for i in range(size)
        for j in range(size)
    }
    total = sum(bell.values())
    for (i, j), weight in bell.items():
        rows[i][j] += amount * weight / total


def _between(rows: list[list[float]], x: float, y: float) -> float:
    """Each of the nearest four centres counts by how near it is."""
    size, total = len(rows), 0.0
    for i in (math.floor(x - 0.5), math.floor(x - 0.5) + 1):
        for j in (math.floor(y - 0.5), math.floor(y - 0.5) + 1):
            total += (1 - abs(x - i - 0.5)) * (1 - abs(y - j - 0.5)) * rows[i % size][j % size]
    return total


def _fresh(s: World, luck: Chance, n: int, x: float, y: float, energy: float, memory: float) -> Cell:
    angle = 2 * math.pi * unit(luck.pair(step.HEADING, n)[0], 24)
    genome = [normal(luck.pair(step.GENOME, n * s.genes + g)[0]) for g in range(s.genes)]
    return Cell(x, y, angle, energy, memory, genome)


def _mutated(gene: float, luck: Chance, index: int, knob: dict[str, Any]) -> float:
    coin, size = luck.pair(step.MUTATION, index)
    return gene + knob["mutation_scale"] * normal(size) if unit(coin, 24) < knob["mutation_rate"] else gene
