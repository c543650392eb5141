"""Pace steering: when a device that is not needed now is to come back, so that devices come neither in a stampede nor too late."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How often devices are to check in.

    Args:
        soonest: seconds between two check-ins of a device, at least, where a run waits for devices.
        latest: at most.
        check_ins: a second, of all devices together, that the service is to have at most.
        idle: how many times as long a device stays away where no run waits for devices.
        held: seconds for which the answer to a check-in waits for a round to begin, at most; 0 to answer at once. A device that waits keeps
            a connection, but it is there when the round begins.
    """

    soonest: float = 5.0
    latest: float = 600.0
    check_ins: float = 100.0
    idle: float = 10.0
    held: float = 0.0

    def hold(self, devices: int) -> float:
        """Seconds for which an answer waits: as short as the number of check-ins allows, so that whoever stops need not wait long; none
        where there are too many devices to have a connection each.

        Args:
            devices: how many check in at present.
        """
        usual = max(self.soonest, 1.0, devices / self.check_ins)
        return usual if usual <= self.held else 0.0

    def seconds(self, devices: int, *, waiting: bool, draw: Callable[[], float] = random.random) -> float:
        """In how many seconds a device comes back.

        Args:
            devices: how many check in at present.
            waiting: whether a run waits for devices.
            draw: a number in [0, 1): devices that came together do not come back together.
        """
        usual = max(self.soonest, devices / self.check_ins)
        usual = min(self.latest, usual if waiting else usual * self.idle)
        return usual * (0.5 + draw())


# Devices of this machine, which cost nothing to ask often.
REHEARSAL = Pace(soonest=0.1, latest=1.0, idle=2.0, held=20.0)
