"""Experiments under controlled conditions: assays in static fields, closed restarts, and co-culture.

All of them run the world's own step with other numbers, so they measure nothing that the world does not do.
"""

from fairyring.ecology.lab.assays import INDIVIDUALS, MEASURES, STEPS, Assay, Assays, assay
from fairyring.ecology.lab.coculture import (
    Coculture,
    Mix,
    Population,
    coculture,
    cocultures,
    gathered,
    scaled,
)
from fairyring.ecology.lab.rates import event_rates
from fairyring.ecology.lab.restarts import closed, colonies, persisted, sizes

__all__ = [
    "INDIVIDUALS",
    "MEASURES",
    "STEPS",
    "Assay",
    "Assays",
    "Coculture",
    "Mix",
    "Population",
    "assay",
    "closed",
    "coculture",
    "cocultures",
    "colonies",
    "event_rates",
    "gathered",
    "persisted",
    "scaled",
    "sizes",
]
