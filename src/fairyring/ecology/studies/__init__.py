"""Whole experiments with their controls.

A `Study` has arms, which are run or gone on with, and decides of their runs what may be said; `conduct` does both and writes
`study.json`. `study_of` gives each subject's study with its usual sizes, and `read_study` what a study's file holds, with every
verdict.
"""

from fairyring.ecology.studies.beside import controls_beside, usual_controls
from fairyring.ecology.studies.chemotaxis import ARMS, ChemotaxisStudy, study_world1, study_world2
from fairyring.ecology.studies.jars import CocultureStudy, JarStudy, study_jars
from fairyring.ecology.studies.rewards import LATE
from fairyring.ecology.studies.rotation import NonGradientStudy, RotationStudy, study_rotation
from fairyring.ecology.studies.sentences import sentences
from fairyring.ecology.studies.study import FILE, Arm, Study, conduct, plain
from fairyring.ecology.studies.subjects import SUBJECTS, study_of
from fairyring.ecology.studies.verdicts import (
    BEFORE,
    LEVEL,
    TOO_FEW,
    damaged,
    decided,
    over_worlds,
    read_study,
)

__all__ = [
    "ARMS",
    "BEFORE",
    "FILE",
    "LATE",
    "LEVEL",
    "SUBJECTS",
    "TOO_FEW",
    "Arm",
    "ChemotaxisStudy",
    "CocultureStudy",
    "JarStudy",
    "NonGradientStudy",
    "RotationStudy",
    "Study",
    "conduct",
    "controls_beside",
    "damaged",
    "decided",
    "over_worlds",
    "plain",
    "read_study",
    "sentences",
    "study_jars",
    "study_of",
    "study_rotation",
    "study_world1",
    "study_world2",
    "usual_controls",
]
