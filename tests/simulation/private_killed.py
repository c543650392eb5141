"""A private run in a process that kills itself: `python -m tests.simulation.private_killed FOLDER PLACE ROUND [resume]`.

PLACE says where in ROUND. Prints the status, and what stopped it.
"""

import os
import signal
import sys
from typing import Any

import fairyring as fr
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.ledger import Ledger
from fairyring.privacy.participation import AtMost
from fairyring.rounds.spending import RoundNoise
from tests.simulation.private_runs import DELTA, plan, run

AFFORDED = 8  # releases


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(owner: type, name: str, number: int, *, before: bool) -> None:
    """Let `Ledger.reserve` or `RoundNoise.release` kill the process in one round, before or after its work."""
    real = getattr(owner, name)

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        round = self.round if owner is RoundNoise else arguments[0]
        if before and round == number:
            die()
        result = real(self, *arguments, **options)
        if not before and round == number:
            die()
        return result

    setattr(owner, name, method)


def main(folder: str, place: str, number: int, resume: bool) -> None:
    given = plan(fr.gaussian_noise(1.5))
    assert given.protection is not None
    epsilon = Accountant(AtMost(), DELTA).spent({given.protection.release: AFFORDED}).epsilon
    given = plan(fr.gaussian_noise(1.5), budget=fr.Budget(epsilon + 1e-3, DELTA))
    if place == "reserved":
        deadly(Ledger, "reserve", number, before=False)
    if place == "computed":
        deadly(RoundNoise, "release", number, before=True)
    if place == "released":
        deadly(RoundNoise, "release", number, before=False)

    def told(record: dict[str, Any]) -> None:
        if place == "told" and record.round == number:
            die()

    made = run(given, 20, run=folder, resume=resume, checkpoint_every=1, entropy=None, on_round=told)
    print(made.header["status"], made.header.get("stopped_by"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), "resume" in sys.argv)
