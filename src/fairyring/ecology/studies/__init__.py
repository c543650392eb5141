"""Whole experiments with their controls."""

from fairyring.ecology.studies.chemotaxis import ARMS, LATE, STEPS, plain, study_world1, study_world2
from fairyring.ecology.studies.jars import JarStudy, study_jars
from fairyring.ecology.studies.rotation import study_rotation

__all__ = [
    "ARMS",
    "LATE",
    "STEPS",
    "JarStudy",
    "plain",
    "study_jars",
    "study_rotation",
    "study_world1",
    "study_world2",
]
