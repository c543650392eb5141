"""How long does the README's quickstart train?

    python benchmarks/quickstart.py [--repeats 3] [--json FILE]

The README's program, in a fresh process and an empty folder, as a reader runs it. Prints the median seconds of its rounds, of what
compiling or finding its programs took before them, and from the start of Python to the end, the report included.
"""

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path

from _machine import introduce, keep

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from timing import fresh_process

README = Path(__file__).resolve().parents[1] / "README.md"
# Behind the README's program: what its run took.
TOLD = """
import json
print(json.dumps({"seconds": run.header["seconds"], "compiling": run.header["compile_seconds"]}))
"""


def turn() -> dict[str, float]:
    """Run it once; seconds of training, of compiling, and in all."""
    program = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[0]
    with tempfile.TemporaryDirectory() as folder:
        told, seconds = fresh_process(program + TOLD, cwd=folder)
    return {**told, "process": seconds}


def main() -> None:
    """Run it and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    here = introduce("seconds")
    turns = [turn() for _ in range(options.repeats)]
    medians = {name: statistics.median(one[name] for one in turns) for name in turns[0]}
    for name, seconds in medians.items():
        print(f"{name:12}{seconds:8.2f}")
    keep(options.json, here, **medians)


if __name__ == "__main__":
    main()
