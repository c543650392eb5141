"""Add an event for which a reward can evolve: being crowded. An event is a name and a function."""

import fairyring as fr
from fairyring.ecology.world import STANDARD

crowded = fr.ecology.Event("crowded", lambda happened: happened.neighbours >= 3)

settings = fr.ecology.World2(
    width=32, capacity=256, founders=100, minimum=16, food_influx=2.0, rewarded=(*STANDARD, crowded)
)
run = fr.ecology.evolve(settings, worlds=2, steps=400, seed=0)
for number, world in zip(run.numbers, run.worlds, strict=True):
    reward = world.genomes()[:, len(STANDARD)].mean()
    print(f"world {number}: being crowded is worth {reward:+.2f}; bacteria alive {len(world.living())}")
