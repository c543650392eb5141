"""Federated algorithms, one per file, all with the contract of `fairyring.learning.algorithm`."""

from fairyring.learning.algorithms.adaptive_clip import adaptive_clip as adaptive_clip
from fairyring.learning.algorithms.averaging import averaging as averaging
from fairyring.learning.algorithms.averaging import fedprox as fedprox
from fairyring.learning.algorithms.fednova import fednova as fednova
from fairyring.learning.algorithms.scaffold import scaffold as scaffold
