"""`device`: what the owner of a device does. `fairyring-device` does the same where nothing else is installed."""

from pathlib import Path
from typing import Any

import msgspec

from fairyring.cli._result import Result
from fairyring.cli._screen import say
from fairyring.device import command


def run(folder: Path, **options: Any) -> Result:
    """Take part until SIGTERM or Ctrl-C; see the command `device`."""
    command.begin(folder, say=say, **options)
    return Result({"folder": folder}, lambda: say("stopped"))


def status(folder: Path) -> Result:
    """What a device holds, took part in and refused."""
    state = command.status(folder)
    return Result(msgspec.to_builtins(state), lambda: say(*command.told(state)))


def switch(folder: Path, *, on: bool) -> Result:
    """Let a device take part, or stop it."""
    command.switch(folder, on)
    return Result({"on": on}, lambda: say("on" if on else "off"))


def forget(folder: Path, source: str | None) -> Result:
    """Delete examples."""
    number = command.forget(folder, source)
    return Result({"forgotten": number}, lambda: say(f"{number:,} examples deleted"))


def leave(folder: Path) -> Result:
    """Delete the device's keys, examples and settings."""
    command.leave(folder)
    return Result({"left": True}, lambda: say("left: this device is enrolled nowhere any more"))
