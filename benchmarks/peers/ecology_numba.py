"""World 1 as a compiled loop over agents, by numba: `python ecology_numba.py --worlds 16`.

The yardstick: what these cores give to a program written for one world at a time. Agents stand side by side (a dead
one's place is taken by the last), worlds are shared among threads, one thread a world. What makes it fast and is used
here: single precision, a halo around the food so that diffusion is straight vector code, one 64-bit random number an
agent and step (Steele, Lea and Flood's SplitMix64), the sources' influx kept until one jumps.
"""

import json
import math
import os
import time

import ecology_world as world
import numba
import numpy as np
from numba import njit, prange

W = world.WIDTH
F32 = np.float32
WIDE, HALF, ONE, TWO, ZERO = F32(W), F32(0.5), F32(1), F32(2), F32(0)
KEEP, SHARE = F32(1 - world.DECAY - 4 * world.DIFFUSION), F32(world.DIFFUSION)
JUMP, SPREAD, INFLUX = F32(world.JUMP), F32(world.SPREAD), F32(world.INFLUX / world.SOURCES)
LOW, HIGH = F32(world.LEVELS[0]), F32(world.LEVELS[1])
CHANGE, CHANGE_FLOOR, MEMORY = F32(world.CHANGE), F32(world.CHANGE_FLOOR), F32(world.MEMORY)
BETA, SPEED, TURN, CIRCLE = F32(world.BETA), F32(world.SPEED), F32(world.TURN), F32(2 * math.pi)
BITE, BITE_MOST, COST = F32(world.BITE), F32(world.BITE_MOST), F32(world.COST)
BORN_WITH, DIVIDE_AT = F32(world.BORN_WITH), F32(world.DIVIDE_AT)
CONJUGATION, MUTATION, SIZE = F32(world.CONJUGATION), F32(world.MUTATION), F32(world.MUTATION_SIZE)

U64 = np.uint64
GOLDEN, MIX_1, MIX_2 = U64(0x9E3779B97F4A7C15), U64(0xBF58476D1CE4E5B9), U64(0x94D049BB133111EB)
S30, S27, S31, S40, S16, BITS_24 = U64(30), U64(27), U64(31), U64(40), U64(16), U64((1 << 24) - 1)
UNIT = F32(2.0**-24)


@njit
def draw(state):
    """The next 64 random bits of SplitMix64; `state` is uint64 `[1]`."""
    state[0] += GOLDEN
    bits = state[0]
    bits = (bits ^ (bits >> S30)) * MIX_1
    bits = (bits ^ (bits >> S27)) * MIX_2
    return bits ^ (bits >> S31)


@njit
def high(bits):
    """A uniform number in [0, 1) of the upper 24 bits."""
    return F32(np.int32(bits >> S40)) * UNIT


@njit
def low(bits):
    """Another of 24 bits below them."""
    return F32(np.int32((bits >> S16) & BITS_24)) * UNIT


@njit
def whole(bits, below):
    """A whole number in [0, below), from the bits of `low`."""
    return min(np.int64(low(bits) * F32(below)), below - 1)


@njit(fastmath=True)
def normal(state):
    """A standard normal number (Box and Muller)."""
    bits = draw(state)
    return math.sqrt(-TWO * math.log(ONE - high(bits))) * math.cos(CIRCLE * low(bits))


@njit(fastmath=True)
def spread(centre, weights):
    """A Gaussian about `centre` at cell centres along one wrapped axis, its sum 1."""
    total = ZERO
    for i in range(W):
        away = abs(F32(i) + HALF - centre)
        away = min(away, WIDE - away) / SPREAD
        weights[i] = math.exp(-HALF * away * away)
        total += weights[i]
    for i in range(W):
        weights[i] /= total


@njit(fastmath=True)
def pour(sources, influx):
    """What the sources give a step, on all cells."""
    across, along = np.empty(W, F32), np.empty(W, F32)
    influx[:] = ZERO
    for source in range(sources.shape[0]):
        spread(sources[source, 0], across)
        spread(sources[source, 1], along)
        for i in range(W):
            given = INFLUX * across[i]
            row = influx[i]
            for j in range(W):
                row[j] += given * along[j]


@njit
def wrap(food):
    """Fill the halo: row and column 0 are the last cells', W + 1 the first's."""
    for i in range(1, W + 1):
        food[i, 0] = food[i, W]
        food[i, W + 1] = food[i, 1]
    food[0] = food[W]
    food[W + 1] = food[1]


@njit(fastmath=True)
def diffuse(food, after, influx):
    """Decay, diffusion and influx, from one field into another, both with halo."""
    wrap(food)
    for i in range(W):
        above, here, below = food[i, 1 : W + 1], food[i + 1, 1 : W + 1], food[i + 2, 1 : W + 1]
        left, right = food[i + 1, 0:W], food[i + 1, 2 : W + 2]
        to, gift = after[i + 1, 1 : W + 1], influx[i]
        for j in range(W):
            to[j] = KEEP * here[j] + SHARE * ((above[j] + below[j]) + (left[j] + right[j])) + gift[j]
    wrap(after)


@njit(fastmath=True)
def head(state, hx, hy, i):
    """A new uniform heading."""
    angle = CIRCLE * high(draw(state))
    hx[i], hy[i] = math.cos(angle), math.sin(angle)


@njit(fastmath=True)
def appear(state, x, y, hx, hy, energy, memory, tables, i):
    """A founder or newcomer at place `i`."""
    bits = draw(state)
    x[i], y[i] = WIDE * high(bits), WIDE * low(bits)
    head(state, hx, hy, i)
    energy[i], memory[i] = BORN_WITH, ZERO
    for entry in range(tables.shape[1]):
        tables[i, entry] = normal(state)


@njit(fastmath=True)
def act(state, food, x, y, hx, hy, memory, tables, cell, crowd, chosen, alive):
    """Sense, choose, tumble or run; count each cell's agents and choose one of them at random."""
    for i in range(alive):
        u, v = x[i] + HALF, y[i] + HALF
        a, b = np.int32(u), np.int32(v)
        u, v = u - F32(a), v - F32(b)
        near = food[a, b] + v * (food[a, b + 1] - food[a, b])
        far = food[a + 1, b] + v * (food[a + 1, b + 1] - food[a + 1, b])
        sensed = near + u * (far - near)
        change = (sensed - memory[i]) / (sensed + memory[i] + CHANGE_FLOOR)
        memory[i] += MEMORY * (sensed - memory[i])
        level = np.int64(sensed >= LOW) + np.int64(sensed >= HIGH)
        entry = 2 * (3 * level + 1 + np.int64(change > CHANGE) - np.int64(change < -CHANGE))
        tumble = ONE / (ONE + math.exp(BETA * (tables[i, entry] - tables[i, entry + 1])))
        bits = draw(state)
        if high(bits) < tumble:
            angle = CIRCLE * low(bits)
            hx[i], hy[i] = math.cos(angle), math.sin(angle)
        else:
            angle = TURN * (TWO * low(bits) - ONE)
            c, s = math.cos(angle), math.sin(angle)
            hx[i], hy[i] = c * hx[i] - s * hy[i], s * hx[i] + c * hy[i]
            x[i] = inside(x[i] + SPEED * hx[i])
            y[i] = inside(y[i] + SPEED * hy[i])
        at = np.int32(x[i]) * W + np.int32(y[i])
        cell[i] = at
        crowd[at] += 1
        # Whoever comes k-th takes the place with probability 1 / k: each of them ends there equally often.
        if crowd[at] == 1 or whole(draw(state), crowd[at]) == 0:
            chosen[at] = i


@njit
def inside(place):
    """A coordinate that left the torus by less than its width, back on it."""
    if place < ZERO:
        place += WIDE
    if place >= WIDE:  # also where a tiny negative number was rounded up to the width
        place -= WIDE
    return place


@njit(fastmath=True)
def meet(state, food, energy, tables, cell, crowd, chosen, eaten, alive):
    """Uptake by proportional share, cost, and conjugation with the chosen agent of the cell."""
    for i in range(alive):
        at = cell[i]
        if chosen[at] == i:
            a, b = at // W + 1, at % W + 1
            some = F32(crowd[at])
            eaten[at] = min(min(BITE * food[a, b], BITE_MOST), food[a, b] / some)
            food[a, b] = max(food[a, b] - some * eaten[at], ZERO)
            crowd[at] = 0
    for i in range(alive):
        at = cell[i]
        energy[i] = max(energy[i] + eaten[at] - COST, ZERO)
        if chosen[at] != i:
            bits = draw(state)
            if high(bits) < CONJUGATION:
                entry = whole(bits, tables.shape[1])
                tables[i, entry] = tables[chosen[at], entry]


@njit(fastmath=True)
def turn_over(state, x, y, hx, hy, energy, memory, tables, alive):
    """Deaths, births and newcomers; how many are alive then."""
    for i in range(alive - 1, -1, -1):
        if energy[i] <= ZERO:
            alive -= 1
            x[i], y[i], hx[i], hy[i] = x[alive], y[alive], hx[alive], hy[alive]
            energy[i], memory[i] = energy[alive], memory[alive]
            tables[i] = tables[alive]
    grown, most = alive, min(alive + world.BIRTHS, len(tables))
    for i in range(alive):
        if energy[i] >= DIVIDE_AT and grown < most:
            energy[i] *= HALF
            x[grown], y[grown], energy[grown], memory[grown] = x[i], y[i], energy[i], memory[i]
            head(state, hx, hy, grown)
            for entry in range(tables.shape[1]):
                value = tables[i, entry]
                if high(draw(state)) < MUTATION:
                    value += SIZE * normal(state)
                tables[grown, entry] = value
            grown += 1
    while grown < world.MINIMUM:
        appear(state, x, y, hx, hy, energy, memory, tables, grown)
        grown += 1
    return grown


@njit
def live(state, sources, fields, influx, agents, tables, alive, population):
    """All steps of one world; what is alive after each goes to `population`."""
    x, y, hx, hy, energy, memory = agents[0], agents[1], agents[2], agents[3], agents[4], agents[5]
    food, spare = fields[0], fields[1]
    cell, crowd = np.empty(len(tables), np.int32), np.zeros(W * W, np.int32)
    chosen, eaten = np.zeros(W * W, np.int32), np.zeros(W * W, F32)
    for step in range(population.shape[0]):
        jumped = False
        for source in range(world.SOURCES):
            bits = draw(state)
            if high(bits) < JUMP:
                bits = draw(state)
                sources[source, 0], sources[source, 1] = WIDE * high(bits), WIDE * low(bits)
                jumped = True
        if jumped:
            pour(sources, influx)
        diffuse(food, spare, influx)
        food, spare = spare, food
        act(state, food, x, y, hx, hy, memory, tables, cell, crowd, chosen, alive)
        meet(state, food, energy, tables, cell, crowd, chosen, eaten, alive)
        alive = turn_over(state, x, y, hx, hy, energy, memory, tables, alive)
        population[step] = alive
    if population.shape[0] % 2:
        fields[0] = food  # which is fields[1] after an odd number of steps
    return alive


@njit(parallel=True)
def evolve(states, sources, fields, influxes, agents, tables, alive, population):
    """All steps of all worlds, a thread a world."""
    for w in prange(len(alive)):
        alive[w] = live(
            states[w], sources[w], fields[w], influxes[w], agents[w], tables[w], alive[w], population[w]
        )


@njit
def found(state, sources, fields, influx, agents, tables):
    """A world before its first step; how many are alive in it."""
    for source in range(world.SOURCES):
        bits = draw(state)
        sources[source, 0], sources[source, 1] = WIDE * high(bits), WIDE * low(bits)
    pour(sources, influx)
    fields[:] = F32(world.FOOD_AT_START)
    for i in range(world.FOUNDERS):
        appear(state, agents[0], agents[1], agents[2], agents[3], agents[4], agents[5], tables, i)
    return world.FOUNDERS


def run(asked: world.Options) -> dict:
    """The line of one run."""
    numba.set_num_threads(min(asked.threads, os.cpu_count() or 1))
    many = asked.worlds
    states = np.random.default_rng(asked.seed).integers(0, 2**64, (many, 1), np.uint64)
    sources = np.zeros((many, world.SOURCES, 2), F32)
    fields, influxes = np.zeros((many, 2, W + 2, W + 2), F32), np.zeros((many, W, W), F32)
    agents = np.zeros((many, 6, asked.capacity), F32)
    tables = np.zeros((many, asked.capacity, world.STATES * world.ACTIONS), F32)
    every = states, sources, fields, influxes, agents, tables
    alive = np.array([found(*(part[w] for part in every)) for w in range(many)])
    before, timed = (np.zeros((many, steps), np.int32) for steps in (asked.warmup, asked.steps))
    evolve(*every, alive, before)  # compiles too
    began, worked = time.perf_counter(), time.process_time()
    evolve(*every, alive, timed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    contrast = [
        world.tumble_contrast(tables[w, : alive[w]].reshape(-1, world.STATES, world.ACTIONS))
        for w in range(many)
    ]
    population = np.concatenate([before, timed], 1)
    return world.line("numba", numba.__version__, asked, seconds, cpu_seconds, population, contrast)


def main() -> None:
    """Run and print."""
    for asked in world.runs((__doc__ or "").splitlines()[0], worlds=16):
        print(json.dumps(run(asked)), flush=True)


if __name__ == "__main__":
    main()
