"""World 1 in fairyring: `python ecology_fairyring.py --worlds 16`.

`fairyring.ecology.evolve` with its own defaults. Its clock runs from the founders on, so that the steps which are
warm-up elsewhere are on it too.
"""

import json
from dataclasses import replace

import ecology_world as world
import numpy as np

import fairyring
from fairyring.ecology import World1, evolve


def run(asked: world.Options) -> dict:
    """The line of one run."""
    whole = replace(asked, warmup=0, steps=asked.warmup + asked.steps)
    result = evolve(World1(capacity=whole.capacity), worlds=whole.worlds, steps=whole.steps, seed=whole.seed)
    population = np.asarray(result.metrics["population"])
    return world.line("fairyring", fairyring.__version__, whole, result.seconds, population, None)


def main() -> None:
    """Run and print."""
    for asked in world.runs((__doc__ or "").splitlines()[0], worlds=16):
        print(json.dumps(run(asked)), flush=True)


if __name__ == "__main__":
    main()
