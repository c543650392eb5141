"""The page on which a device's owner sees, in plain words, what it took part in, and turns it off or makes it forget."""

from fairyring.device.page.owner_state import Holding, OwnerState, Participation, Refusal, Totals
from fairyring.device.page.page import Actions, OwnerPage

__all__ = ["Actions", "Holding", "OwnerPage", "OwnerState", "Participation", "Refusal", "Totals"]
