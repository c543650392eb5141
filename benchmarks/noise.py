"""How fast is integer noise? Each law and width, beside the least it could cost and beside NumPy's.

    python benchmarks/noise.py [--count 1000000] [--repeats 9] [--json FILE]

One core. Prints, for each law and standard deviation, the median milliseconds of processor time a million
numbers take to draw, beside the 100 it may take, and how long the first draw takes longer, which makes the
table. Before them, of the same run:

- `keystream`: AES-256-CTR of 8 bytes a number, without what is made of it; laws wider than 1024 read 16
  bytes.
- `numpy`: `rint` of `Generator.normal` of sigma 5, and `Generator.poisson` twice, of variance 25. They are
  fast, and not made to keep a secret: whoever knows 128 bits of state knows the noise. Here for comparison
  only.

Whatever else runs takes caches and half a core where cores are shared: the load is printed.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _machine import introduce, keep

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from timing import median_seconds

from fairyring.privacy import sampling
from fairyring.privacy._fine import fine_gaussian
from fairyring.privacy.entropy import derive, fresh, words

LIMIT = 100.0
BLOCK = 1 << 15


def milliseconds(call: Callable[[int], object], repeats: int) -> float:
    """Median milliseconds of processor time of `call(repeat)`, after one that is not counted."""
    numbers = itertools.count()
    return 1e3 * median_seconds(lambda: call(next(numbers)), repeats, time.process_time)


def main() -> None:
    """Time each law and print."""
    arguments = argparse.ArgumentParser(description="How fast is integer noise?")
    arguments.add_argument("--count", type=int, default=1_000_000)
    arguments.add_argument("--repeats", type=int, default=9)
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    count, repeats, root = options.count, options.repeats, fresh()
    each = 1e6 / count
    here = introduce("ms for 10^6, one core")
    print(f"{'':20}{'sigma':>9}{'median':>9}{'limit':>8}{'first':>9}")

    def read(repeat: int) -> None:
        # As the samplers do, a block at a time: what is read stays in the cache.
        for start in range(0, count, BLOCK):
            words(derive(root, repeat, start), min(BLOCK, count - start))

    stream = milliseconds(read, repeats)
    print(f"{'keystream':20}{'':>9}{stream * each:9.1f}")
    generator = np.random.default_rng(0)
    theirs = {
        "numpy normal": lambda repeat: np.rint(generator.normal(0, 5, count)).astype(np.int64),
        "numpy poisson": lambda repeat: generator.poisson(12.5, count) - generator.poisson(12.5, count),
    }
    for name, call in theirs.items():
        print(f"{name:20}{5:9}{milliseconds(call, repeats) * each:9.1f}", flush=True)
    laws: dict[str, dict[str, Any]] = {}
    for draw, sigmas in (
        (sampling.rounded_gaussian, (0.3, 5, 500, 50_000, 1 << 22)),
        (sampling.discrete_gaussian, (0.3, 5, 500, 50_000, 1 << 22)),
        (sampling.skellam, (0.3, 5, 500, 4096, 1 << 14)),
        (fine_gaussian, (0.3, 1 << 22)),
    ):
        name = draw.__name__
        for sigma in sigmas:
            scale = sigma**2 if name == "skellam" else sigma
            began = time.process_time()
            draw(scale, 1, fresh())
            first = 1e3 * (time.process_time() - began)
            taken = each * milliseconds(
                lambda repeat, draw=draw, scale=scale: draw(scale, count, derive(root, repeat)), repeats
            )
            verdict = "met" if taken <= LIMIT else "missed"
            print(f"{name:20}{sigma:9}{taken:9.1f}{LIMIT:8.0f}{first:9.0f}  {verdict}", flush=True)
            laws.setdefault(name, {})[str(sigma)] = {"milliseconds": taken, "first": first}
    keep(options.json, here, keystream=stream * each, laws=laws)


if __name__ == "__main__":
    main()
