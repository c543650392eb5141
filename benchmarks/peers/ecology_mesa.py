"""World 1 as a model of Mesa 3: `python ecology_mesa.py --worlds 1 --steps 300`.

Bacteria are agents in the cells of an orthogonal grid, with their place inside the cell beside it; food is a property
layer, which NumPy diffuses. What makes it fast and is used here: plain Python numbers and lists in the agents, a
bacterium's cell changed only when it crosses into another, cells looked at only where somebody is. Worlds run one after
the other, on one core, as Python code does.
"""

import json
import math
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import cast

import ecology_world as world
import numpy as np
from mesa import Model
from mesa.discrete_space import Cell, CellAgent, OrthogonalVonNeumannGrid, PropertyLayer

W = world.WIDTH
LOW, HIGH = world.LEVELS


class Bacterium(CellAgent):
    """An agent with a table from what it senses to run or tumble."""

    def __init__(
        self, model: "Ecology", x: float, y: float, energy: float, memory: float, table: list[list[float]]
    ) -> None:
        super().__init__(model)
        self.ecology = model
        self.x, self.y = x, y
        self.cell = model.grid[int(x), int(y)]
        self.energy, self.memory, self.table = energy, memory, table
        self.face_anywhere()

    def face_anywhere(self) -> None:
        """A new uniform heading."""
        angle = self.random.uniform(0, 2 * math.pi)
        self.hx, self.hy = math.cos(angle), math.sin(angle)

    def sense(self) -> float:
        """The food here, bilinear between cell centres."""
        u, v = self.x - 0.5, self.y - 0.5
        i, j = math.floor(u), math.floor(v)
        u, v = u - i, v - j
        k, m = (i + 1) % W, (j + 1) % W
        food = self.ecology.food.data.item
        near = (1 - v) * food(i, j) + v * food(i, m)
        far = (1 - v) * food(k, j) + v * food(k, m)
        return (1 - u) * near + u * far

    def act(self) -> None:
        """Sense, choose, tumble or run."""
        sensed = self.sense()
        change = (sensed - self.memory) / (sensed + self.memory + world.CHANGE_FLOOR)
        self.memory += world.MEMORY * (sensed - self.memory)
        level = (sensed >= LOW) + (sensed >= HIGH)
        run, tumble = self.table[3 * level + 1 + (change > world.CHANGE) - (change < -world.CHANGE)]
        if self.random.random() * (1 + math.exp(world.BETA * (run - tumble))) < 1:
            self.face_anywhere()
            return
        angle = world.TURN * (2 * self.random.random() - 1)
        c, s = math.cos(angle), math.sin(angle)
        self.hx, self.hy = c * self.hx - s * self.hy, s * self.hx + c * self.hy
        # A tiny negative number modulo the width is rounded to the width itself; the second makes it 0.
        self.x = (self.x + world.SPEED * self.hx) % W % W
        self.y = (self.y + world.SPEED * self.hy) % W % W
        cell = self.ecology.grid[int(self.x), int(self.y)]
        if cell is not self.cell:
            self.cell = cell

    def meet(self, other: "Bacterium") -> None:
        """Perhaps copy one entry of the other's table."""
        if self.random.random() < world.CONJUGATION:
            state, action = self.random.randrange(world.STATES), self.random.randrange(world.ACTIONS)
            self.table[state][action] = other.table[state][action]

    def divide(self) -> None:
        """Half of the energy to a child here, with a mutated table."""
        self.energy /= 2
        draw, normal = self.random.random, self.random.gauss
        table = [
            [
                entry + normal(0, world.MUTATION_SIZE) if draw() < world.MUTATION else entry
                for entry in actions
            ]
            for actions in self.table
        ]
        Bacterium(self.ecology, self.x, self.y, self.energy, self.memory, table)


class Ecology(Model):
    """One world."""

    def __init__(self, seed: int, capacity: int) -> None:
        super().__init__(seed=seed)
        self.capacity = capacity
        self.grid = OrthogonalVonNeumannGrid((W, W), torus=True, random=self.random)
        self.food = PropertyLayer("food", (W, W), default_value=world.FOOD_AT_START, dtype=float)
        self.grid.add_property_layer(self.food)
        self.sources = W * self.rng.random((world.SOURCES, 2))
        self.influx = self.pour()
        for _ in range(world.FOUNDERS):
            self.appear()

    def step(self) -> None:
        """One step of the world."""
        self.grow()
        self.agents.do("act")
        self.feed_and_meet()
        for starved in [agent for agent in self.bacteria() if agent.energy <= 0]:
            starved.remove()
        room = min(world.BIRTHS, self.capacity - len(self.agents))
        for parent in [agent for agent in self.bacteria() if agent.energy >= world.DIVIDE_AT][:room]:
            parent.divide()
        while len(self.agents) < world.MINIMUM:
            self.appear()

    def bacteria(self) -> Iterable[Bacterium]:
        """Those alive, in the order of their births."""
        return cast(Iterable[Bacterium], self.agents)

    def pour(self) -> np.ndarray:
        """What the sources give a step, `[W, W]`."""
        away = np.abs(np.arange(W) + 0.5 - self.sources[..., None])
        away = np.minimum(away, W - away) / world.SPREAD
        weights = np.exp(-0.5 * away**2)
        weights /= weights.sum(-1, keepdims=True)
        return world.INFLUX / world.SOURCES * np.einsum("si,sj->ij", weights[:, 0], weights[:, 1])

    def grow(self) -> None:
        """Sources jump; food decays, spreads and comes in."""
        jumps = self.rng.random(world.SOURCES) < world.JUMP
        if jumps.any():
            self.sources[jumps] = W * self.rng.random((int(jumps.sum()), 2))
            self.influx = self.pour()
        food = self.food.data
        wide = np.pad(food, 1, mode="wrap")
        around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
        food *= 1 - world.DECAY - 4 * world.DIFFUSION
        food += world.DIFFUSION * around + self.influx

    def feed_and_meet(self) -> None:
        """Uptake by proportional share, cost, and conjugation with one agent of the cell."""
        food, occupied = self.food.data, dict.fromkeys(agent.cell for agent in self.bacteria())
        for cell in cast(Iterable[Cell], occupied):
            here = cast(list[Bacterium], cell.agents)
            there = food.item(cell.coordinate)
            share = min(world.BITE * there, world.BITE_MOST, there / len(here))
            food[cell.coordinate] = max(there - share * len(here), 0.0)
            for agent in here:
                agent.energy = max(agent.energy + share - world.COST, 0.0)
            if len(here) > 1:
                chosen = self.random.choice(here)
                for agent in here:
                    if agent is not chosen:
                        agent.meet(chosen)

    def appear(self) -> None:
        """A founder or newcomer."""
        draw, normal = self.random.random, self.random.gauss
        table = [[normal(0, 1) for _ in range(world.ACTIONS)] for _ in range(world.STATES)]
        Bacterium(self, W * draw(), W * draw(), world.BORN_WITH, 0.0, table)


def run(asked: world.Options) -> dict:
    """The line of one run."""
    population = np.zeros((asked.worlds, asked.warmup + asked.steps), np.int32)
    contrast, seconds, cpu_seconds = [], 0.0, 0.0
    for w in range(asked.worlds):
        ecology = Ecology(1000 * asked.seed + w, asked.capacity)
        began, worked = time.perf_counter(), time.process_time()
        for step in range(asked.warmup + asked.steps):
            if step == asked.warmup:
                began, worked = time.perf_counter(), time.process_time()
            ecology.step()
            population[w, step] = len(ecology.agents)
        seconds += time.perf_counter() - began
        cpu_seconds += time.process_time() - worked
        contrast.append(world.tumble_contrast(np.array([agent.table for agent in ecology.bacteria()])))
    return world.line("mesa", version("mesa"), asked, seconds, cpu_seconds, population, contrast)


def main() -> None:
    """Run and print."""
    for asked in world.runs((__doc__ or "").splitlines()[0], steps=300):
        print(json.dumps(run(asked)), flush=True)


if __name__ == "__main__":
    main()
