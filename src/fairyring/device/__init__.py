"""What runs on a device: the agent, its examples, its own ledger, when it may train, training in a process with limits, and a page for its owner.

Nothing in here needs JAX, and nothing knows of a service but the messages that both know. Names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.device.agent import Agent as Agent
    from fairyring.device.eligibility import Always as Always
    from fairyring.device.eligibility import Conditions as Conditions
    from fairyring.device.eligibility import Eligibility as Eligibility
    from fairyring.device.eligibility import LinuxConditions as LinuxConditions
    from fairyring.device.eligibility import Rules as Rules
    from fairyring.device.examples import ExampleStore as ExampleStore
    from fairyring.device.fitted import Fitted as Fitted
    from fairyring.device.folder import DeviceFolder as DeviceFolder
    from fairyring.device.ledger import Caps as Caps
    from fairyring.device.ledger import DeviceLedger as DeviceLedger
    from fairyring.device.participant import Participant as Participant
    from fairyring.device.randomness import Own as Own
    from fairyring.device.randomness import Randomness as Randomness
    from fairyring.device.randomness import Rehearsed as Rehearsed
    from fairyring.device.reading import from_file as from_file
    from fairyring.device.running import take_part as take_part
    from fairyring.device.runtimes import targets_here as targets_here
    from fairyring.device.training import Trained as Trained
    from fairyring.device.training import Trainer as Trainer
    from fairyring.device.transport import Transport as Transport

_MODULES = {
    "agent": ("Agent",),
    "eligibility": ("Always", "Conditions", "Eligibility", "LinuxConditions", "Rules"),
    "examples": ("ExampleStore",),
    "fitted": ("Fitted",),
    "folder": ("DeviceFolder",),
    "ledger": ("Caps", "DeviceLedger"),
    "participant": ("Participant",),
    "randomness": ("Own", "Randomness", "Rehearsed"),
    "reading": ("from_file",),
    "running": ("take_part",),
    "runtimes": ("targets_here",),
    "training": ("Trained", "Trainer"),
    "transport": ("Transport",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] the names above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fairyring.device' has no attribute {name!r}")
    value = getattr(import_module(f"fairyring.device.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
