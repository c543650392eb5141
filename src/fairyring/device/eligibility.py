"""Whether a device may train now: it is idle, on mains, on a free network, not too hot, and has enough charge.

`Conditions` is what an agent asks. An app on a phone gives its own: on Android from a JobScheduler's constraints, on iOS from a background
task's. On Linux the kernel's files tell of power and heat, and the services logind, UPower and NetworkManager the rest over D-Bus.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from fairyring.core.platforms import cores, load

BUSY = 0.5  # of the cores: above, somebody else is using the machine
_TIMEOUT = 2.0  # seconds for an answer over D-Bus
_METERED = {1: True, 2: False, 3: True, 4: False}  # NetworkManager's: yes, no, and its two guesses
# Of a machine's thermal zones those of the processor and the battery: others are of parts that are meant to be hot.
_ZONES = ("cpu", "x86_pkg", "soc", "acpitz", "battery", "skin", "package")

Bus = Callable[[str, str, str, str], Any]


class Eligibility(NamedTuple):
    """Whether a device may train, and if not, why, in words for its owner."""

    eligible: bool
    reasons: tuple[str, ...] = ()


class Conditions(Protocol):
    """Tells whether a device may train now. An agent asks before it says that it is there, and while it trains."""

    def now(self) -> Eligibility:
        """Whether it may; within a few seconds."""
        ...


class Facts(NamedTuple):
    """What is known of a device's state; None is unknown.

    Attributes:
        idle: nobody uses it.
        charging: it is on mains.
        unmetered: its network costs nothing by the byte.
        battery: charge, from 0 to 1; 1 for a device without a battery.
        temperature: of its hottest part that counts, in degrees Celsius.
    """

    idle: bool | None = None
    charging: bool | None = None
    unmetered: bool | None = None
    battery: float | None = None
    temperature: float | None = None


class Rules(NamedTuple):
    """When a device may train.

    Attributes:
        idle, charging, unmetered: whether it must be.
        minimum_battery: the least charge, from 0 to 1.
        maximum_temperature: in degrees Celsius; None for no bound.
        unknown: whether what the system does not tell is taken as good (`"allow"`) or as bad (`"refuse"`).
    """

    idle: bool = True
    charging: bool = True
    unmetered: bool = True
    minimum_battery: float = 0.3
    maximum_temperature: float | None = 80.0
    unknown: Literal["allow", "refuse"] = "allow"

    def judge(self, facts: Facts) -> Eligibility:
        """Whether a device in this state may train."""
        battery, heat, most = facts.battery, facts.temperature, self.maximum_temperature
        asked = [
            (self.idle, facts.idle, "it is in use", "whether it is in use"),
            (self.charging, facts.charging, "it is not charging", "whether it is charging"),
            (self.unmetered, facts.unmetered, "its network is metered", "whether its network is metered"),
            (
                self.minimum_battery > 0,
                None if battery is None else battery >= self.minimum_battery,
                f"its battery is below {self.minimum_battery:.0%}",
                "how much charge it has",
            ),
            (
                most is not None,
                None if heat is None or most is None else heat <= most,
                f"it is hotter than {most:g} °C" if most is not None else "",
                "how hot it is",
            ),
        ]
        reasons: list[str] = []
        for matters, good, bad, unknown in asked:
            if matters and good is False:
                reasons.append(bad)
            elif matters and good is None and self.unknown == "refuse":
                reasons.append(f"the system does not say {unknown}")
        return Eligibility(not reasons, tuple(reasons))


class Always:
    """A device that may always train."""

    def now(self) -> Eligibility:
        """See `Conditions`."""
        return Eligibility(True)


class Told:
    """A device whose state it is told: by an app that knows it, or a test.

    Args:
        facts: at first.
        rules: when it may train.
    """

    def __init__(self, facts: Facts, rules: Rules | None = None) -> None:
        self.facts, self.rules = facts, rules or Rules()

    def now(self) -> Eligibility:
        """See `Conditions`."""
        return self.rules.judge(self.facts)


def _busctl(service: str, path: str, interface: str, name: str) -> Any:
    """A property over D-Bus; None if there is no such service, or no bus."""
    command = ["busctl", "--system", "--json=short", "get-property", service, path, interface, name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=True)
        return json.loads(done.stdout)["data"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


class LinuxConditions:
    """The state of a Linux machine.

    Args:
        rules: when it may train.
        system: where the kernel's files about devices are.
        bus: a property over D-Bus by service, path, interface and name; None if it is not there.
        busy: the load at which it is in use, as a part of its cores. Of its own training an agent asks with a higher one.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        system: Path = Path("/sys"),
        bus: Bus = _busctl,
        busy: float = BUSY,
    ) -> None:
        self.rules, self._system, self._bus, self._busy = rules or Rules(), system, bus, busy

    def now(self) -> Eligibility:
        """See `Conditions`."""
        return self.rules.judge(self.facts())

    def facts(self) -> Facts:
        """What the system says."""
        charging, battery = self._power()
        return Facts(self._idle(), charging, self._unmetered(), battery, self._temperature())

    def _idle(self) -> bool | None:
        hint = self._bus(
            "org.freedesktop.login1",
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
            "IdleHint",
        )
        wanted = load()
        calm = None if wanted is None else wanted <= self._busy * cores()
        known = [fact for fact in (hint if isinstance(hint, bool) else None, calm) if fact is not None]
        return all(known) if known else None

    def _unmetered(self) -> bool | None:
        name = "org.freedesktop.NetworkManager"
        metered = self._bus(name, "/org/freedesktop/NetworkManager", name, "Metered")
        known = _METERED.get(metered) if isinstance(metered, int) else None
        return None if known is None else not known

    def _power(self) -> tuple[bool | None, float | None]:
        """Whether it is on mains, and the charge of its emptiest battery."""
        folder = self._system / "class" / "power_supply"
        try:
            supplies = [(_text(one / "type"), one) for one in sorted(folder.iterdir())]
        except OSError:
            return self._power_by_bus(), None
        # Batteries of mice and keyboards do not run the machine.
        batteries = [one for kind, one in supplies if kind == "Battery" and _text(one / "scope") != "Device"]
        mains = [_text(one / "online") for kind, one in supplies if kind in ("Mains", "USB", "Wireless")]
        online = [text != "0" for text in mains if text]
        if not batteries:
            return (any(online) if online else True), 1.0
        charges = [int(text) / 100 for one in batteries if (text := _text(one / "capacity")).isdigit()]
        states = {_text(one / "status") for one in batteries}
        on_mains = any(online) if online else None
        if "Discharging" in states:
            on_mains = False
        elif on_mains is None and states & {"Charging", "Full", "Not charging"}:
            on_mains = True
        return (self._power_by_bus() if on_mains is None else on_mains), min(charges, default=None)

    def _power_by_bus(self) -> bool | None:
        name = "org.freedesktop.UPower"
        on_battery = self._bus(name, "/org/freedesktop/UPower", name, "OnBattery")
        return not on_battery if isinstance(on_battery, bool) else None

    def _temperature(self) -> float | None:
        """Of the hottest zone."""
        zones = sorted((self._system / "class" / "thermal").glob("thermal_zone*"))
        read = [
            int(text) / 1000
            for zone in zones
            if _text(zone / "type").lower().startswith(_ZONES)
            and (text := _text(zone / "temp")).lstrip("-").isdigit()
        ]
        return max(read, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
