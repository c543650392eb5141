"""What does a world of bacteria cost? World 1 of fairyring's ecology beside the same world in other systems.

    python benchmarks/peers/environments.py ecology      once: numba and Mesa
    python benchmarks/ecology.py [--quick] [--part speed ...] [--system numba ...] [--repeats 3] [--json FILE]

- `speed`: live agent-steps a second (the sum over worlds and steps of the number alive, over seconds of running,
  compilation apart) of 2,000 steps at 1 to 40 worlds, after 500 steps that settle the population. numba runs a thread a world: at 1 world its figure is one thread's. NumPy and Mesa run one
  world after the other on one core, Mesa fewer steps. Ratios are to numba at the same number of worlds and to the one
  world of Mesa, in this run.
- `agreement`: is it the same world? Each system's mean population over steps 1,000 to 2,000, over worlds of its own
  random numbers, and the tumble contrast its tables reached, P(tumble | food falls) - P(tumble | food rises). Worlds
  differ much (their populations by a fifth of the mean), so that a few of them decide nothing: standard errors are
  printed. A system agrees whose population is within 10 % of numba's.
- `worlds`, `capacity`: how the speed changes with the number of worlds and with the most that may be alive in one.
- `kernels`: how many kernels a step of the compiled program takes.

The systems take turns, each in a fresh process; the figure kept is the best of its turns, since whatever else ran on
the cores can only have slowed it. The load is printed. What a second of CPU time of all threads gives ("/CPU s") suffers
less from others; for numba it is what a thread does, for fairyring it has the reading of logs in it.
"""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _machine import introduce, keep

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from environments import python

PEERS = Path(__file__).resolve().parent / "peers"
PYTHON = python("ecology")
# Seconds a turn may take before it is given up.
PATIENCE = 1800
PARTS = ("speed", "agreement", "worlds", "capacity", "kernels")
SYSTEMS = ("fairyring", "numba", "numpy", "mesa")
NAMES = {"fairyring": "fairyring", "numba": "numba, a thread a world", "numpy": "NumPy", "mesa": "Mesa"}
WORLDS = {"fairyring": (1, 4, 16, 40), "numba": (1, 4, 16, 40), "numpy": (1,), "mesa": (1,)}
STEPS = {"fairyring": 2000, "numba": 2000, "numpy": 2000, "mesa": 300}
# Worlds of the agreement: full, quick. Mesa takes about a quarter of a minute a world.
SAMPLE = {"fairyring": (32, 16), "numba": (64, 32), "numpy": (12, 4), "mesa": (12, 2)}
SCALE, CAPACITIES, WORLDS_SCALED = (1, 2, 4, 8, 16, 32, 64), (512, 1024, 2048, 4096, 8192), 8
# Live agent-steps a second on two cores at this number of worlds; the second is the stretch.
TARGET_WORLDS, TARGET, STRETCH = 16, 12e6, 20e6


def turn(system: str, script: str | None = None, **settings: object) -> list[dict[str, Any]]:
    """The lines that one fresh process of a system prints; none where it failed or took too long."""
    interpreter = sys.executable if system == "fairyring" else str(PYTHON)
    told = [interpreter, str(PEERS / f"ecology_{script or system}.py")]
    for name, value in settings.items():
        told += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    try:
        ran = subprocess.run(told, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"    {NAMES[system]}: given up after {PATIENCE} s", flush=True)
        return []
    if ran.returncode:
        print(f"    {NAMES[system]}: failed\n{ran.stderr[-2000:]}", flush=True)
        return []
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"system"')]


@dataclass
class Best:
    """The best of several turns of one system at one setting.

    Attributes:
        rates: live agent-steps a second of each turn.
        per_cpu_second: the same a second of CPU time of all threads, the most of any turn.
        fastest: the line of the fastest turn.
    """

    rates: list[float] = field(default_factory=list)
    per_cpu_second: float = 0.0
    fastest: dict[str, Any] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Note a turn."""
        self.rates.append(line["agent_steps_per_second"])
        self.per_cpu_second = max(self.per_cpu_second, line["agent_steps_per_cpu_second"])
        if self.rates[-1] == max(self.rates):
            self.fastest = line

    @property
    def rate(self) -> float:
        """Of the fastest turn."""
        return max(self.rates)

    @property
    def spread(self) -> float:
        """How far the slowest turn stays behind the fastest."""
        return 1 - min(self.rates) / self.rate


class Benchmark:
    """The parts, and the lines they gathered for `--json`.

    Attributes:
        systems: who takes part.
        repeats: turns of each.
        quick: fewer steps and worlds.
        lines: what every turn printed.
    """

    def __init__(self, systems: list[str], repeats: int, quick: bool) -> None:
        self.systems, self.repeats, self.quick = systems, repeats, quick
        self.lines: list[dict[str, Any]] = []

    def turns(self, part: str, asked: dict[str, dict[str, Any]]) -> dict[tuple[str, int, int], Best]:
        """Let systems take turns.

        Args:
            part: which part asks.
            asked: settings of each system's runs.

        Returns:
            The best turn by system, worlds and capacity.
        """
        best: dict[tuple[str, int, int], Best] = {}
        for _ in range(self.repeats):
            for system, settings in asked.items():
                for line in turn(system, **settings):
                    self.lines.append({"part": part, **line})
                    best.setdefault((system, line["worlds"], line["capacity"]), Best()).add(line)
        return best

    def speed(self) -> None:
        """Every system at its numbers of worlds."""
        asked = {
            system: {"worlds": WORLDS[system], "steps": STEPS[system] // (4 if self.quick else 1)}
            for system in self.systems
        }
        best = self.turns("speed", asked)
        per_worlds = {(system, worlds): turns for (system, worlds, _), turns in best.items()}
        mesa = per_worlds.get(("mesa", 1))
        print(
            f"\n{'speed':38}{'worlds':>7}{'M steps/s':>11}{'spread':>8}{'/CPU s':>8}{'alive':>7}{'/numba':>8}{'/Mesa':>8}"
        )
        for (system, worlds), turns in per_worlds.items():
            name = f"{NAMES[system]} {turns.fastest['version']}"
            row = f"  {name:36}{worlds:7}{turns.rate / 1e6:11.3f}{turns.spread:8.0%}"
            row += f"{turns.per_cpu_second / 1e6:8.3f}{turns.fastest['population']:7.0f}"
            numba = per_worlds.get(("numba", worlds))
            row += f"{turns.rate / numba.rate:8.2f}" if numba else f"{'-':>8}"
            row += f"{turns.rate / mesa.rate:8.1f}" if mesa else f"{'-':>8}"
            if system == "fairyring" and worlds == TARGET_WORLDS:
                verdict = "met" if turns.rate >= TARGET else "MISSED"
                row += f"  target {TARGET / 1e6:.0f} {verdict}, stretch {STRETCH / 1e6:.0f}"
            print(row, flush=True)

    def agreement(self) -> None:
        """Populations and tumble contrasts of every system beside numba's."""
        told: dict[str, tuple[float, float]] = {}
        print(
            f"\n{'agreement':38}{'worlds':>7}{'alive':>8}{'± se':>7}{'contrast':>10}{'± se':>7}{'to numba':>10}"
        )
        for system in sorted(self.systems, key=lambda system: system != "numba"):
            for line in turn(system, worlds=SAMPLE[system][self.quick], steps=2000, seed=100):
                self.lines.append({"part": "agreement", **line})
                alive, error = told[system] = mean_and_error(line["settled"])
                row = (
                    f"  {NAMES[system] + ' ' + line['version']:36}{line['worlds']:7}{alive:8.1f}{error:7.1f}"
                )
                row += "{:10.3f}{:7.3f}".format(*mean_and_error(line["contrast"]))
                if "numba" in told and system != "numba":
                    apart = alive / told["numba"][0] - 1
                    doubt = math.hypot(error, told["numba"][1]) / told["numba"][0]
                    verdict = (
                        "agrees" if abs(apart) <= 0.1 else "DIFFERS" if abs(apart) > 3 * doubt else "unclear"
                    )
                    row += f"{apart:+10.1%}  {verdict} (± {doubt:.1%})"
                print(row, flush=True)

    def worlds(self) -> None:
        """fairyring and numba at more and more worlds."""
        steps = 500 if self.quick else 2000
        compiled = [system for system in self.systems if system in ("fairyring", "numba")]
        best = self.turns("worlds", {system: {"worlds": SCALE, "steps": steps} for system in compiled})
        print(
            f"\n{'scaling with worlds':38}{'worlds':>7}{'M steps/s':>11}{'to 1':>8}{'us a step of a world':>22}"
        )
        for (system, worlds, capacity), turns in best.items():
            line, one = turns.fastest, best[system, SCALE[0], capacity]
            each = 1e6 * line["seconds"] / line["steps"] / worlds
            row = f"  {NAMES[system]:36}{worlds:7}{turns.rate / 1e6:11.3f}{turns.rate / one.rate:8.2f}{each:22.1f}"
            print(row, flush=True)

    def capacity(self) -> None:
        """fairyring and numba with more and more room; who are alive are as many, but where there is no room."""
        steps = 500 if self.quick else 2000
        compiled = [system for system in self.systems if system in ("fairyring", "numba")]
        print(
            f"\n{'scaling with capacity':38}{'places':>7}{'M steps/s':>11}{'alive':>8}{'us a step of a world':>22}"
        )
        for capacity in CAPACITIES:
            settings = {"worlds": WORLDS_SCALED, "steps": steps, "capacity": capacity}
            for (system, worlds, _), turns in self.turns(
                "capacity", dict.fromkeys(compiled, settings)
            ).items():
                line = turns.fastest
                each = 1e6 * line["seconds"] / line["steps"] / worlds
                row = f"  {NAMES[system]:36}{capacity:7}{turns.rate / 1e6:11.3f}{line['population']:8.0f}{each:22.1f}"
                print(row, flush=True)

    def kernels(self) -> None:
        """Kernels a step in fairyring."""
        for line in turn("fairyring", "kernels"):
            self.lines.append({"part": "kernels", **line})
            print(
                f"\nkernels a step, fairyring {line['version']}: {line['kernels']}, {line['opcodes']}",
                flush=True,
            )


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean of one number a world, and its standard error (nan of a single world)."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def main() -> None:
    """Run the parts asked for and print their tables."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="one turn each, fewer steps and worlds")
    arguments.add_argument("--part", action="append", choices=PARTS)
    arguments.add_argument("--system", action="append", choices=SYSTEMS)
    arguments.add_argument("--repeats", type=int, default=None)
    arguments.add_argument("--json", type=Path, help="write every turn here")
    options = arguments.parse_args()
    if not PYTHON.exists():
        sys.exit(f"no {PYTHON}: run python {PEERS / 'environments.py'} ecology")
    here = introduce()
    repeats = options.repeats or (1 if options.quick else 3)
    benchmark = Benchmark(options.system or list(SYSTEMS), repeats, options.quick)
    for part in options.part or PARTS:
        getattr(benchmark, part)()
    keep(options.json, here, turns=benchmark.lines)


if __name__ == "__main__":
    main()
