"""Do the speed figures of the README and the docs still hold? Their tables, as this machine gives them.

    python benchmarks/peers/environments.py                      once: the peers' own environments
    python benchmarks/figures.py [--output FILE.json]            everything, in about an hour on two cores that do nothing else
    python benchmarks/figures.py --only simulators --repeats 1   one benchmark, one turn
    python benchmarks/figures.py --from FILE.json                compare kept results again, without measuring

Runs the benchmarks behind the figures, each in a process of its own; what cannot run is said, and the others go on. Then prints

- the tables, the README's first, as the documents have them, with what was measured in place of what they say, to be pasted;
- every figure: where it stands, what is said, what was measured, and whether it holds, with the tolerance.

A ratio holds within 15 %: both of its sides were measured in one run. It is `unclear` where it is off by more, but turns of the
same run are as far apart. A rate or a time holds within 25 %, and is judged only on a machine of the kind that the documents name.
On a busy machine only bytes and processor time are judged. Exits with 1 where a figure no longer holds.

What the documents say is read out of them. `_places.py` lists where the figures stand.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from _documented import Figure, Measured, Said, Unmeasured, read, said
from _machine import introduce, is_busy
from _places import CLUSTER, PLACES, is_documented

HERE = Path(__file__).resolve().parent
# How many times as long as expected a benchmark may take.
PATIENCE = 4
HOLDS, LOST, UNCLEAR = "holds", "NO LONGER HOLDS", "unclear"


@dataclass(frozen=True)
class Part:
    """A benchmark as it is run here.

    Attributes:
        minutes: about how long it takes on two cores.
        arguments: for it.
        repeats: its option for the number of turns; without one it has none.
    """

    minutes: int
    arguments: tuple[str, ...] = ()
    repeats: str | None = "--repeats"


PARTS = {
    "simulators": Part(25, ("--repeats", "3")),
    "limit": Part(8, ("--variant", "plain", "--variant", "engine", "--repeats", "3")),
    "models": Part(6),
    "secagg": Part(10, repeats=None),
    "private_rounds": Part(5, repeats="--cycles"),
    "noise": Part(1),
    "quickstart": Part(1),
    "small_rounds": Part(1),
    "sweeps": Part(2),
    "scale": Part(4, ("--repeats", "2", *(word for work in CLUSTER.values() for word in ("--work", work)))),
}


class Judged(NamedTuple):
    """A figure, what was measured, and what follows."""

    said: Said
    measured: Measured | None
    verdict: str


def run(name: str, repeats: int | None) -> dict[str, Any] | None:
    """Run a benchmark; its results, as far as it came, or None."""
    part = PARTS[name]
    print(f"\n== {name}, about {part.minutes} minutes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "results.json")
        command = [sys.executable, str(HERE / f"{name}.py"), *part.arguments, "--json", str(kept)]
        if repeats and part.repeats:
            command += [part.repeats, str(repeats)]
        try:
            # Patience for a slower machine, but not for ever.
            ended = subprocess.run(command, timeout=PATIENCE * 60 * part.minutes).returncode
            trouble = f"failed with status {ended}" if ended else ""
        except subprocess.TimeoutExpired:
            trouble = f"was given up after {PATIENCE * part.minutes} minutes"
        if trouble:
            print(f"{name} {trouble}: what it has not measured is left out", flush=True)
        if not kept.exists():
            return None
        return json.loads(kept.read_text())


def judge(one: Said, results: dict[str, Any]) -> Judged:
    """Compare a figure with the results of its benchmark."""
    figure, here = one.figure, results["machine"]
    try:
        measured = figure.measured(results)
    except Unmeasured as missing:
        return Judged(one, None, f"not measured: {missing}")
    except KeyError as missing:
        return Judged(one, None, f"not measured: {figure.part} gave nothing for {missing}")
    if figure.absolute and not is_documented(here):
        return Judged(one, measured, "not judged: another machine")
    if figure.quiet and is_busy(here):
        return Judged(one, measured, "not judged: the machine was busy")
    return Judged(one, measured, verdict(one, measured))


def verdict(one: Said, measured: Measured) -> str:
    """Whether a figure holds."""
    share = 1 + one.figure.tolerance
    most = one.value * share
    if one.figure.at_most:
        return HOLDS if measured.value <= most else LOST
    if one.value / share - one.rounding <= measured.value <= most + one.rounding:
        return HOLDS
    return UNCLEAR if measured.low <= one.value <= measured.high else LOST


def tables(file: str, judged: list[Judged]) -> list[str]:
    """A document's tables with what was measured in place of its figures; those of which nothing was are left out."""
    text = read(file)
    fresh = {text.count("\n", 0, one.said.span[0]) for one in judged if one.measured}
    for one in sorted(judged, key=lambda one: one.said.span, reverse=True):
        start, end = one.said.span
        shown = one.said.figure.written(one.measured.value) if one.measured else "–"
        text = text[:start] + shown + text[end:]
    found: list[str] = []
    block: list[int] = []
    lines = [*text.splitlines(), ""]
    for place, line in enumerate(lines):
        if line.startswith("|"):
            block.append(place)
            continue
        if fresh & set(block):
            found.append("\n".join(lines[block[0] : place]))
        block = []
    return found


def number(figure: Figure, value: float) -> str:
    """A number as the documents write it, but finely enough to be compared."""
    return figure.written(value) if value >= 100 else f"{value:.3g}"


def last_words(one: Judged) -> tuple[bool, bool]:
    """Sorts what no longer holds behind everything else, so that it is what one sees."""
    return one.verdict == LOST, one.verdict == UNCLEAR


def report(judged: list[Judged]) -> None:
    """Print the tables, then every figure."""
    for file in dict.fromkeys(one.said.file for one in judged):
        for table in tables(file, [one for one in judged if one.said.file == file]):
            print(f"\n{file}, as measured:\n\n{table}")
    print(f"\n{'where':36}{'figure':72}{'says':>10}{'measured':>10}")
    for one, measured, told in sorted(judged, key=last_words):
        got = "–" if measured is None else number(one.figure, measured.value)
        within = f"{'at most, ' if one.figure.at_most else ''}{one.figure.tolerance:.0%}"
        if measured and measured.low < measured.high:
            within += f", turns {number(one.figure, measured.low)} to {number(one.figure, measured.high)}"
        where = f"{one.file}:{one.line}"
        print(
            f"{where:36}{one.figure.name:72}{number(one.figure, one.value):>10}{got:>10}  {told} ({within})"
        )
    counts = Counter(one.verdict.partition(":")[0] for one in judged)
    print("\n" + ", ".join(f"{count} {told}" for told, count in counts.items()))


def main() -> int:
    """Measure, or read what was measured; print. Returns the exit status."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--only", action="append", choices=list(PARTS), help="this benchmark; may be repeated"
    )
    arguments.add_argument(
        "--repeats", type=int, help="turns of each system; without it as many as each benchmark takes"
    )
    arguments.add_argument("--output", type=Path, help="keep the results here")
    arguments.add_argument(
        "--from", dest="kept", type=Path, help="compare the results kept here; measures nothing"
    )
    options = arguments.parse_args()
    # First: an hour is too long to find out afterwards that a figure is not where it was.
    try:
        figures = said(PLACES)
    except LookupError as lost:
        print(lost, file=sys.stderr)
        return 2
    names = options.only or list(PARTS)
    results: dict[str, Any] = json.loads(options.kept.read_text()) if options.kept else {}
    if not options.kept:
        introduce(f"about {sum(PARTS[name].minutes for name in names)} minutes")
        for name in names:
            if found := run(name, options.repeats):
                results[name] = found
                if options.output:
                    options.output.write_text(json.dumps(results, indent=1))
    for name in names:
        if name not in results:
            print(f"{name}: no results, so its figures are left out")
        elif is_busy(results[name]["machine"]):
            print(
                f"{name}: the machine was busy ({results[name]['machine']['busy']} cores); its figures are not to be quoted"
            )
    judged = [
        judge(one, results[one.figure.part]) for one in figures if one.figure.part in {*names} & {*results}
    ]
    report(judged)
    return int(any(one.verdict == LOST for one in judged))


if __name__ == "__main__":
    sys.exit(main())
