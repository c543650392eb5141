"""Kernels that a step of World 1 takes in fairyring, as one line of JSON: `python ecology_kernels.py`.

What is counted is what runs: the instructions of the body of the compiled program's loop over steps, without those that
only name values. A fusion is one of them, and so is a loop inside a step.
"""

import json
import re
from collections import Counter
from typing import Any

import fairyring
from fairyring.ecology import World1, evolve
from fairyring.ecology.history.running import compiled

# These say where a value is, or in what order; nothing is computed.
NAMES = {"parameter", "get-tuple-element", "tuple", "constant", "bitcast", "opt-barrier"}
COMPUTATION = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{$")
# `%name = type opcode(`, where the type may be a tuple of types with layouts.
OPCODE = re.compile(r"^\s+(?:ROOT )?%?\S+ = .*?[\])}] ([a-z][a-z0-9-]*)\(")
BODY = re.compile(r" while\(.* body=%?([^\s,]+)")


def kernels(text: str) -> Counter[str]:
    """How often each opcode is in the body of the entry's loop, of a program as XLA writes it."""
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    body = None
    for line in text.splitlines():
        if begun := COMPUTATION.match(line):
            name = "ENTRY" if begun[1] else begun[2]
            lines = computations[name] = []
        lines.append(line)
    for line in computations["ENTRY"]:
        if found := BODY.search(line):
            body = found[1]
    if body is None:
        raise SystemExit("the compiled program has no loop over steps")
    codes = (found[1] for line in computations[body] if (found := OPCODE.match(line)))
    return Counter(code for code in codes if code not in NAMES)


def main() -> None:
    """Count and print."""
    settings = World1()
    evolve(settings, worlds=1, steps=1, cores=1)
    program: Any = compiled(settings.structure(), settings.capacity, 1).loaded[0]
    found = kernels(program.as_text())
    line = {
        "system": "fairyring",
        "version": fairyring.__version__,
        "kernels": sum(found.values()),
        "opcodes": dict(found.most_common()),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
