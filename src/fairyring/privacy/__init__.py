"""Enforced differential privacy: noise stages, accounting, the ledger, audits.

A plan has a noise stage in its aggregation and a `Budget`; the rest follows from these. The package also has functions to
compute costs in advance (`epsilon`, `calibrate`), audits, and local randomisers, which need no trusted server (`local`).

Names are imported on first use: a device that draws its share of noise, or a reader of a ledger, needs no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.privacy.accounting import Accountant as Accountant
    from fairyring.privacy.accounting import Spent as Spent
    from fairyring.privacy.accounting import calibrate as calibrate
    from fairyring.privacy.accounting import epsilon as epsilon
    from fairyring.privacy.budget import Budget as Budget
    from fairyring.privacy.canaries import Canaries as Canaries
    from fairyring.privacy.canaries import Estimate as Estimate
    from fairyring.privacy.ledger import Ledger as Ledger
    from fairyring.privacy.local import RandomizedResponse as RandomizedResponse
    from fairyring.privacy.local import UnaryEncoding as UnaryEncoding
    from fairyring.privacy.mechanism import Checked as Checked
    from fairyring.privacy.mechanism import DirectCheck as DirectCheck
    from fairyring.privacy.mechanism import Finding as Finding
    from fairyring.privacy.membership import Membership as Membership
    from fairyring.privacy.participation import AtMost as AtMost
    from fairyring.privacy.participation import FixedSize as FixedSize
    from fairyring.privacy.participation import PoissonSampled as PoissonSampled
    from fairyring.privacy.release import Release as Release
    from fairyring.privacy.stages import correlated_noise as correlated_noise
    from fairyring.privacy.stages import distributed_noise as distributed_noise
    from fairyring.privacy.stages import gaussian_noise as gaussian_noise
    from fairyring.privacy.together import together as together

_MODULES = {
    "accounting": ("Accountant", "Spent", "calibrate", "epsilon"),
    "budget": ("Budget",),
    "canaries": ("Canaries", "Estimate"),
    "ledger": ("Ledger",),
    "local": ("RandomizedResponse", "UnaryEncoding"),
    "membership": ("Membership",),
    "mechanism": ("Checked", "DirectCheck", "Finding"),
    "participation": ("AtMost", "FixedSize", "PoissonSampled"),
    "release": ("Release",),
    "together": ("together",),
    "stages": ("correlated_noise", "distributed_noise", "gaussian_noise"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] the names above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fairyring.privacy' has no attribute {name!r}")
    value = getattr(import_module(f"fairyring.privacy.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
