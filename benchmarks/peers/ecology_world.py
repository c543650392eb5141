"""The world in which ecologies are compared, as plain data: NumPy only, the same in every system's environment.

World 1 of fairyring's ecology: run-and-tumble bacteria on a torus of cells with food that diffuses, whose tables from
what is sensed to run or tumble are inherited and mutated. Rates are a step of 0.1 s, lengths are in cells, energies in
what an agent eats. Each system draws random numbers of its own, so that worlds agree in distribution only: every line
carries the mean population and the mean tumble contrast, by which one sees that the same world was run.
"""

import argparse
from dataclasses import dataclass

import numpy as np

WIDTH = 128
CAPACITY, FOUNDERS, MINIMUM, BIRTHS = 2048, 400, 64, 64
SOURCES, INFLUX, SPREAD, JUMP = 6, 30.0, 5.0, 1 / 300
DECAY, DIFFUSION = 0.01, 0.2
LEVELS, CHANGE, CHANGE_FLOOR, MEMORY = (0.02, 0.2), 0.01, 1e-3, 1 / 4
STATES, ACTIONS, BETA = 9, 2, 2.0
SPEED, TURN = 0.5, (3 * 2 * 0.01) ** 0.5  # a uniform angle in [-TURN, TURN] has the variance of the diffusion
BITE, BITE_MOST, COST = 0.1, 0.05, 0.02
BORN_WITH, DIVIDE_AT = 1.0, 2.0
CONJUGATION, MUTATION, MUTATION_SIZE = 0.05, 0.02, 0.5
FOOD_AT_START = INFLUX / (DECAY * WIDTH * WIDTH)
# Populations are compared over these steps, counted from the founders.
SETTLED = (1000, 2000)


@dataclass(frozen=True)
class Options:
    """What a system is asked to run.

    Attributes:
        worlds: how many.
        warmup: steps before the clock starts.
        steps: steps on the clock.
        seed: of all worlds.
        capacity: the most alive in a world.
        threads: cores it may use.
    """

    worlds: int
    warmup: int
    steps: int
    seed: int
    capacity: int
    threads: int


def runs(title: str, *, worlds: int = 1, warmup: int = 500, steps: int = 2000) -> list[Options]:
    """What the command line of an `ecology_*.py` asks for: a run for each number of worlds."""
    arguments = argparse.ArgumentParser(description=title)
    arguments.add_argument("--worlds", type=int, nargs="+", default=[worlds])
    arguments.add_argument("--warmup", type=int, default=warmup)
    arguments.add_argument("--steps", type=int, default=steps)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--capacity", type=int, default=CAPACITY)
    arguments.add_argument("--threads", type=int, default=2, help="cores, where a system can use several")
    asked = arguments.parse_args()
    rest = asked.warmup, asked.steps, asked.seed, asked.capacity, asked.threads
    return [Options(many, *rest) for many in asked.worlds]


def tumble_contrast(tables: np.ndarray) -> float:
    """Mean over agents and levels of P(tumble | food falls) - P(tumble | food rises).

    Args:
        tables: `[agents, 9, 2]`; a state is 3 * level + change, an action 0 (run) or 1 (tumble).
    """
    tumble = 1 / (1 + np.exp(BETA * (tables[:, :, 0] - tables[:, :, 1]).astype(np.float64)))
    by_change = tumble.reshape(-1, 3, 3).mean((0, 1))
    return float(by_change[0] - by_change[2])


def line(
    system: str,
    version: str,
    asked: Options,
    seconds: float,
    cpu_seconds: float,
    population: np.ndarray,
    contrast: list[float],
) -> dict:
    """What each `ecology_*.py` prints, as one line of JSON.

    Args:
        system: its name.
        version: of it.
        asked: what it ran.
        seconds: on the clock, compilation apart.
        cpu_seconds: of all threads together in that time.
        population: alive at the end of each step, `[worlds, warmup + steps]`.
        contrast: tumble contrast of each world at the end.
    """
    alive_steps = int(population[:, asked.warmup :].sum())
    first, last = SETTLED
    settled = population[:, first:last].mean(1).round(1).tolist() if population.shape[1] >= last else None
    return {
        "system": system,
        "version": version,
        "worlds": asked.worlds,
        "capacity": asked.capacity,
        "threads": asked.threads,
        "warmup": asked.warmup,
        "steps": asked.steps,
        "seconds": round(seconds, 4),
        "cpu_seconds": round(cpu_seconds, 4),
        "agent_steps": alive_steps,
        "agent_steps_per_second": round(alive_steps / seconds),
        "agent_steps_per_cpu_second": round(alive_steps / cpu_seconds),
        "population": round(float(population[:, asked.warmup :].mean()), 1),
        "settled": settled,
        "contrast": [round(value, 3) for value in contrast],
    }
