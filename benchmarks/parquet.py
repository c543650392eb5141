"""How many clients a second are read from Parquet files, and what bounds it?

    python benchmarks/parquet.py [--clients 10000] [--delay 0.02] [--repeats 3] [--json FILE]

A client has 100 rows of 100 float32 and a label, 40 kB. Cohorts of 100 clients, drawn at random, are gathered as a round does, each read ahead while the one before is
gathered. From memory; from a disk, which is this machine's memory once it was read; and from a server on this machine that speaks S3 and waits so many seconds before every answer.
Row groups of several sizes, of which 64 MiB are kept. Prints clients a second; clients a second of processor time, which tell whether the processor is what bounds it; and how
long it takes to find out where clients are, and to read all rows at once.

The server is Python, too, and on the same cores: with cores that are all busy, a real one gives more.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _machine import introduce, keep

import fairyring as fr

ROOT = Path(__file__).resolve().parents[1]
ROWS, FEATURES, COHORT, ROUNDS = 100, 100, 100, 10
KEPT = 64 << 20
GROUPS = {"256 KiB": 1 << 18, "1 MiB": 1 << 20, "8 MiB": 1 << 23}
SERVER = """
import sys
from pathlib import Path
from tests.population.fake_s3 import fake_s3

with fake_s3() as server:
    server.delay = float(sys.argv[2])
    server.put(Path(sys.argv[1]), "bucket/people")
    print(server.endpoint, flush=True)
    sys.stdin.read()
"""


def people(clients: int) -> fr.Population:
    """So many clients, in memory."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(clients * ROWS, FEATURES)).astype(np.float32)
    y = rng.integers(0, 10, len(x)).astype(np.int32)
    return fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat(np.arange(clients), ROWS))


@contextmanager
def served(folder: Path, delay: float) -> Iterator[str]:
    """The address of a server that has the files of a folder."""
    command = [sys.executable, "-c", SERVER, str(folder), str(delay)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def gathered(population: fr.Population, seed: int) -> dict[str, float]:
    """Clients a second, and a second of processor time."""
    rng = np.random.default_rng(seed)
    cohorts = [np.sort(rng.choice(len(population), COHORT, replace=False)) for _ in range(ROUNDS)]
    began, busy = time.perf_counter(), time.process_time()
    for cohort in cohorts:
        population.prefetch(cohort)
        population.gather(cohort)
    took = time.perf_counter() - began
    return {
        "by the clock": ROUNDS * COHORT / took,
        "by the processor": ROUNDS * COHORT / (time.process_time() - busy),
    }


def seconds(read: Callable[[], Any]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    read()
    return time.perf_counter() - began


def measure(open_: Callable[[bool | None], fr.Population], repeats: int) -> dict[str, float]:
    """Medians of one place and size of row groups.

    Args:
        open_: makes the population, all in memory or not.
        repeats: how many turns.
    """
    index = seconds(lambda: open_(False))
    turns = [gathered(open_(False), seed) for seed in range(repeats)]  # each with nothing read yet
    medians = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return medians | {"index": index, "whole": seconds(lambda: open_(True))}


def main() -> None:
    """Measure, and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--clients", type=int, default=10_000)
    arguments.add_argument(
        "--delay", type=float, default=0.02, help="seconds before every answer of the server"
    )
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    here, found = introduce(), {}
    population = people(options.clients)
    memory = gathered(population, 0)
    print(f"{'':20}{'clients/s':>12}{'a core-second':>16}{'index, s':>12}{'all rows, s':>14}")
    print(f"{'memory':20}{memory['by the clock']:12,.0f}{memory['by the processor']:16,.0f}")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["HOME"] = temporary  # where the index is kept
        for label, group in GROUPS.items():
            folder = population.to_parquet(Path(temporary, label), "user", row_group_bytes=group)

            def on_disk(whole: bool | None, folder: Path = folder) -> fr.Population:
                return fr.Population.from_parquet(folder, "user", in_memory=whole, cache_bytes=KEPT)

            places = {f"disk, {label}": measure(on_disk, options.repeats)}
            with served(folder, options.delay) as endpoint:
                storage = fr.S3Storage(endpoint=endpoint, anonymous=True)

                def on_s3(whole: bool | None, storage: fr.S3Storage = storage) -> fr.Population:
                    return fr.Population.from_parquet(
                        "s3://bucket/people", "user", in_memory=whole, storage=storage, cache_bytes=KEPT
                    )

                places[f"S3, {label}"] = measure(on_s3, options.repeats)
            for name, one in places.items():
                print(
                    f"{name:20}{one['by the clock']:12,.0f}{one['by the processor']:16,.0f}{one['index']:12.2f}{one['whole']:14.1f}",
                    flush=True,
                )
            found |= places
            keep(options.json, here, memory=memory, places=found)


if __name__ == "__main__":
    main()
