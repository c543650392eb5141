"""World 1 in fairyring: `python ecology_fairyring.py --worlds 16`.

`fairyring.ecology.evolve` with its own defaults: everybody's birth and death is logged, as always.
"""

import json
import time

import ecology_world as world

import fairyring
from fairyring.ecology import World1, evolve


def measured(asked: world.Options) -> dict:
    """The line of one run."""
    settings = World1(capacity=asked.capacity)
    warm = evolve(settings, worlds=asked.worlds, steps=asked.warmup, seed=asked.seed, cores=asked.threads)
    worked = time.process_time()
    run = warm.until(asked.warmup + asked.steps, cores=asked.threads)
    cpu_seconds = time.process_time() - worked
    contrast = [
        world.tumble_contrast(one.genomes().reshape(-1, world.STATES, world.ACTIONS)) for one in run.worlds
    ]
    seconds, population = run.seconds - warm.seconds, run.metrics["population"]
    return world.line("fairyring", fairyring.__version__, asked, seconds, cpu_seconds, population, contrast)


def main() -> None:
    """Run and print."""
    for asked in world.runs((__doc__ or "").splitlines()[0], worlds=16):
        print(json.dumps(measured(asked)), flush=True)


if __name__ == "__main__":
    main()
