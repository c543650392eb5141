"""World 1 in plain vectorised NumPy: `python ecology_numpy.py --worlds 1`.

Those alive are rows of arrays that are cut and joined as they die and are born; worlds run one after the other, on one
core.
"""

import json
import time

import ecology_world as world
import numpy as np

F32 = np.float32
W = world.WIDTH


class Ecology:
    """One world.

    Attributes:
        food: `[W, W]`.
        place, heading: `[alive, 2]`.
        energy, memory: `[alive]`.
        tables: `[alive, 9, 2]`.
    """

    def __init__(self, rng: np.random.Generator, capacity: int) -> None:
        self.rng, self.capacity = rng, capacity
        self.sources = rng.random((world.SOURCES, 2)) * W
        self.influx = self.pour()
        self.food = np.full((W, W), world.FOOD_AT_START, F32)
        self.place = np.empty((0, 2), F32)
        self.heading = np.empty((0, 2), F32)
        self.energy, self.memory = np.empty(0, F32), np.empty(0, F32)
        self.tables = np.empty((0, world.STATES, world.ACTIONS), F32)
        self.appear(world.FOUNDERS)

    @property
    def alive(self) -> int:
        """How many are alive."""
        return len(self.energy)

    def step(self) -> None:
        """One step of the world."""
        self.grow()
        sensed = self.sense()
        state = self.state(sensed)
        self.memory += world.MEMORY * (sensed - self.memory)
        self.move(state)
        self.feed_and_meet()
        self.keep(self.energy > 0)
        self.divide()
        if self.alive < world.MINIMUM:
            self.appear(world.MINIMUM - self.alive)

    def pour(self) -> np.ndarray:
        """What the sources give a step, `[W, W]`."""
        away = np.abs(np.arange(W) + 0.5 - self.sources[..., None])
        away = np.minimum(away, W - away) / world.SPREAD
        weights = np.exp(-0.5 * away**2)
        weights /= weights.sum(-1, keepdims=True)
        total = np.einsum("si,sj->ij", weights[:, 0], weights[:, 1])
        return (world.INFLUX / world.SOURCES * total).astype(F32)

    def grow(self) -> None:
        """Sources jump; food decays, spreads and comes in."""
        jumps = self.rng.random(world.SOURCES) < world.JUMP
        if jumps.any():
            self.sources[jumps] = self.rng.random((int(jumps.sum()), 2)) * W
            self.influx = self.pour()
        wide = np.pad(self.food, 1, mode="wrap")
        around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
        self.food *= 1 - world.DECAY - 4 * world.DIFFUSION
        self.food += world.DIFFUSION * around + self.influx

    def sense(self) -> np.ndarray:
        """The food at each agent, bilinear between cell centres."""
        at = self.place - F32(0.5)
        first = np.floor(at).astype(np.intp)
        part = at - first.astype(F32)
        (i, j), (k, m) = first.T % W, (first.T + 1) % W
        u, v = part.T
        near = self.food[i, j] * (1 - v) + self.food[i, m] * v
        far = self.food[k, j] * (1 - v) + self.food[k, m] * v
        return near * (1 - u) + far * u

    def state(self, sensed: np.ndarray) -> np.ndarray:
        """What each agent's table is asked with."""
        change = (sensed - self.memory) / (sensed + self.memory + world.CHANGE_FLOOR)
        direction = 1 + (change > world.CHANGE).astype(np.intp) - (change < -world.CHANGE)
        return 3 * np.digitize(sensed, world.LEVELS) + direction

    def move(self, state: np.ndarray) -> None:
        """Tumble or run."""
        run, tumble = self.tables[np.arange(self.alive), state].T
        tumbles = self.rng.random(self.alive, F32) < 1 / (1 + np.exp(world.BETA * (run - tumble)))
        runs = ~tumbles
        self.heading[tumbles] = self.headings(int(tumbles.sum()))
        angle = world.TURN * (2 * self.rng.random(int(runs.sum()), F32) - 1)
        c, s = np.cos(angle), np.sin(angle)
        hx, hy = self.heading[runs].T
        self.heading[runs] = np.stack([c * hx - s * hy, s * hx + c * hy], 1)
        self.place[runs] = (self.place[runs] + world.SPEED * self.heading[runs]) % W

    def feed_and_meet(self) -> None:
        """Uptake by proportional share, cost, and conjugation with one agent of the cell."""
        food = self.food.reshape(-1)
        # A tiny negative coordinate is rounded to the width itself: cell 0, then.
        i, j = self.place.astype(np.intp).T % W
        cell = W * i + j
        crowd = np.bincount(cell, minlength=W * W)
        share = np.minimum(np.minimum(world.BITE * food, world.BITE_MOST), food / np.maximum(crowd, 1))
        food -= crowd * share
        np.maximum(food, 0, out=food)
        self.energy = np.maximum(self.energy + share[cell] - F32(world.COST), 0)
        # Of equal indices NumPy keeps the last value: in a random order, one of the cell's at random.
        order = self.rng.permutation(self.alive)
        chosen = np.empty(W * W, np.intp)
        chosen[cell[order]] = order
        partner = chosen[cell]
        meets = (partner != np.arange(self.alive)) & (self.rng.random(self.alive) < world.CONJUGATION)
        takers = np.flatnonzero(meets)
        s = self.rng.integers(world.STATES, size=len(takers))
        a = self.rng.integers(world.ACTIONS, size=len(takers))
        self.tables[takers, s, a] = self.tables[partner[takers], s, a]

    def keep(self, those: np.ndarray) -> None:
        """Only `those`, bool `[alive]`, live on."""
        if not those.all():
            self.place, self.heading = self.place[those], self.heading[those]
            self.energy, self.memory = self.energy[those], self.memory[those]
            self.tables = self.tables[those]

    def divide(self) -> None:
        """Those with enough energy give half of it to a child with a mutated table."""
        room = min(world.BIRTHS, self.capacity - self.alive)
        parents = np.flatnonzero(self.energy >= world.DIVIDE_AT)[:room]
        if not len(parents):
            return
        self.energy[parents] /= 2
        tables = self.tables[parents]
        mutated = self.rng.random(tables.shape, F32) < world.MUTATION
        tables[mutated] += world.MUTATION_SIZE * self.rng.standard_normal(int(mutated.sum()), F32)
        self.join(self.place[parents], self.energy[parents], self.memory[parents], tables)

    def appear(self, many: int) -> None:
        """Founders or newcomers."""
        place = self.rng.random((many, 2), F32) * W
        tables = self.rng.standard_normal((many, world.STATES, world.ACTIONS), F32)
        self.join(place, np.full(many, world.BORN_WITH, F32), np.zeros(many, F32), tables)

    def join(self, place: np.ndarray, energy: np.ndarray, memory: np.ndarray, tables: np.ndarray) -> None:
        """Add agents, with uniform headings."""
        self.place = np.concatenate([self.place, place])
        self.heading = np.concatenate([self.heading, self.headings(len(place))])
        self.energy = np.concatenate([self.energy, energy])
        self.memory = np.concatenate([self.memory, memory])
        self.tables = np.concatenate([self.tables, tables])

    def headings(self, many: int) -> np.ndarray:
        """Uniform unit vectors, `[many, 2]`."""
        angle = 2 * np.pi * self.rng.random(many)
        return np.stack([np.cos(angle), np.sin(angle)], 1).astype(F32)


def run(asked: world.Options) -> dict:
    """The line of one run."""
    worlds = [Ecology(np.random.default_rng([asked.seed, w]), asked.capacity) for w in range(asked.worlds)]
    population = np.zeros((asked.worlds, asked.warmup + asked.steps), np.int32)
    seconds = cpu_seconds = 0.0
    for w, ecology in enumerate(worlds):
        began, worked = time.perf_counter(), time.process_time()
        for step in range(asked.warmup + asked.steps):
            if step == asked.warmup:
                began, worked = time.perf_counter(), time.process_time()
            ecology.step()
            population[w, step] = ecology.alive
        seconds += time.perf_counter() - began
        cpu_seconds += time.process_time() - worked
    contrast = [world.tumble_contrast(ecology.tables) for ecology in worlds]
    return world.line("numpy", np.__version__, asked, seconds, cpu_seconds, population, contrast)


def main() -> None:
    """Run and print."""
    for asked in world.runs((__doc__ or "").splitlines()[0]):
        print(json.dumps(run(asked)), flush=True)


if __name__ == "__main__":
    main()
