"""A process that spends from a ledger until it is refused or killed: `python -m tests.privacy.ledger_spender FOLDER EPSILON`.

It says `ready` and waits for a line before it opens the ledger, so that several begin at once. Each line after that is
one fact, in one system call: `asks`, `has NUMBER`, `leaves NUMBER`, `left NUMBER`, `refused`.
"""

import os
import sys
from pathlib import Path

from fairyring.core.errors import BudgetSpent
from fairyring.privacy.release import Release
from tests.privacy.ledger_meter import digest, noise, opened


def say(*words: object) -> None:
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


def main(folder: Path, epsilon: float) -> None:
    say("ready")
    sys.stdin.readline()
    ledger = opened(folder / "ledger.sqlite", epsilon)
    round = os.getpid() << 20  # a round is reserved by one of them
    while True:
        say("asks")
        try:
            number = ledger.reserve(round, noise())
        except BudgetSpent:
            say("refused")
            return
        say("has", number)
        if number % 3:
            ledger.amend(number, Release("correlated", 1.0, bands=8))  # which costs the same
        say("leaves", number)
        ledger.release(number, digest(number))
        say("left", number)
        round += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
