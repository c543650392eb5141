"""Which tests run, and which may be left out.

A campaign is a test of many parts, each with seeds of its own: `make soak` runs all parts, any other run one of them,
another for each commit, so that as many successive commits as there are parts run the whole of it. Where many cases show
one thing, they are dealt out in the same way: every commit runs some of them.
"""

import subprocess
from collections.abc import Hashable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What may be skipped where nothing may be (`--no-skips`): the beginning of a test's name -> why.
MAY_SKIP = {
    "tests/population/readers/test_sets.py::test_fashion_mnist_is_dealt_from_its_own_split": "its files are not part of the published data here",
}


def may_skip(name: str) -> bool:
    return any(name.startswith(one) for one in MAY_SKIP)


def turn(parts: int) -> int:
    """Which part of a campaign is this commit's: the next for the next commit."""
    return _commits() % parts


def dealt(cases: Sequence[Hashable], parts: int) -> list[bool]:
    """For each case whether it is this commit's. Equal ones stay together, and no commit is without any."""
    places = {case: place for place, case in enumerate(dict.fromkeys(cases))}
    parts = min(parts, max(1, len(places)))
    now = turn(parts)
    return [places[case] % parts == now for case in cases]


def _commits() -> int:
    """How many commits lead to this one; any number for each where not all are here; 0 without git."""
    try:
        if _git("rev-parse", "--is-shallow-repository") == "true":
            return int(_git("rev-parse", "HEAD"), 16)
        return int(_git("rev-list", "--count", "HEAD"))
    except (OSError, subprocess.CalledProcessError):
        return 0


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
