"""What evolved, asked under conditions that nothing else changes: assays in static fields, closed restarts, co-culture in jars.

All of it is the world's own step under other numbers, so nothing is measured that the world does not do.
"""

from fairyring.ecology.lab.assays import INDIVIDUALS, STEPS, Assay, assay
from fairyring.ecology.lab.coculture import Jar, Mix, Population, gathered, jar, jars, scaled
from fairyring.ecology.lab.restarts import closed, colonies, persisted, sizes

__all__ = [
    "INDIVIDUALS",
    "STEPS",
    "Assay",
    "Jar",
    "Mix",
    "Population",
    "assay",
    "closed",
    "colonies",
    "gathered",
    "jar",
    "jars",
    "persisted",
    "scaled",
    "sizes",
]
