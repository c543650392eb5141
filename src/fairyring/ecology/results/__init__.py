"""The results of a study: its `study.json`, the verdicts in it, and sentences for a terminal.

Nothing here needs JAX, so a report can be written where no world can be run.
"""

from fairyring.ecology.results.sentences import sentences
from fairyring.ecology.results.study_file import FILE, damaged, plain, read_study, run_path, write_study
from fairyring.ecology.results.verdicts import BEFORE, LEVEL, TOO_FEW, decided, over_worlds

__all__ = [
    "BEFORE",
    "FILE",
    "LEVEL",
    "TOO_FEW",
    "damaged",
    "decided",
    "over_worlds",
    "plain",
    "read_study",
    "run_path",
    "sentences",
    "write_study",
]
