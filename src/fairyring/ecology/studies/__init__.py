"""Whole experiments with their controls.

A `Study` has arms, and decides what may be concluded from their runs. `conduct` runs or continues the arms, lets the study
decide, and writes `study.json`. `study_of` gives the study of each subject with its usual sizes. `run_with_controls` is a
single run with control worlds. `sweep` compares settings.
"""

from fairyring.ecology.studies.chemotaxis import ARMS, ChemotaxisStudy, study_world1, study_world2
from fairyring.ecology.studies.coculture import CocultureResult, CocultureStudy, study_coculture
from fairyring.ecology.studies.controlled import (
    ControlledRun,
    Judgement,
    control_count,
    controls_path,
    judge,
    run_with_controls,
)
from fairyring.ecology.studies.non_gradient import NonGradientResult, NonGradientStudy, study_non_gradient
from fairyring.ecology.studies.study import Arm, Progress, Study, conduct
from fairyring.ecology.studies.subjects import SUBJECTS, study_of
from fairyring.ecology.studies.sweeping import sweep

__all__ = [
    "ARMS",
    "SUBJECTS",
    "Arm",
    "ChemotaxisStudy",
    "CocultureResult",
    "CocultureStudy",
    "ControlledRun",
    "Judgement",
    "NonGradientResult",
    "NonGradientStudy",
    "Progress",
    "Study",
    "conduct",
    "control_count",
    "controls_path",
    "judge",
    "run_with_controls",
    "study_coculture",
    "study_non_gradient",
    "study_of",
    "study_world1",
    "study_world2",
    "sweep",
]
