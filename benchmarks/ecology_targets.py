"""How fast is world 2, and how long does the study of world 1 run? `python benchmarks/ecology_targets.py`

Beside each figure its target. Peers have no world 2, so what is beside it is world 1 in the same run.
"""

import dataclasses

from _machine import introduce

from fairyring.ecology import World1, World2, evolve

WORLDS, SETTLING, STEPS = 16, 1000, 3000
STUDY = {"none": range(16), "scrambled": range(1000, 1016), "blind": range(2000, 2008)}
STUDY_STEPS = 8000


def main() -> None:
    """Measure and print."""
    introduce()
    print(f"\n{WORLDS} worlds, steps {SETTLING} to {STEPS}   M live agent-steps a second   target")
    for name, settings, target in (("world 1", World1(), 12.0), ("world 2", World2(), 5.0)):
        settled = evolve(settings, WORLDS, SETTLING, seed=7)
        run = settled.until(STEPS)
        rate = (run.agent_steps - settled.agent_steps) / (run.seconds - settled.seconds) / 1e6
        print(f"  {name:28}{rate:10.1f}{target:25.0f} {'met' if rate >= target else 'MISSED'}")
    seconds, compiling = 0.0, 0.0
    for control, numbers in STUDY.items():
        run = evolve(dataclasses.replace(World1(), control=control), numbers, STUDY_STEPS, seed=11)
        seconds, compiling = seconds + run.seconds, compiling + run.compiling
    worlds = sum(map(len, STUDY.values()))
    print(f"\nthe study of world 1: {worlds} worlds of {STUDY_STEPS} steps ran for {seconds:.1f} s", end="")
    print(f" (target 40: {'met' if seconds <= 40 else 'MISSED'}; compiling {compiling:.1f} s apart)")


if __name__ == "__main__":
    main()
