"""The results of a study: its `study.json`, the verdicts in it, sentences for a terminal, tables as CSV, and sweeps.

Nothing here needs JAX, so a report can be written where no world can be run.
"""

from fairyring.ecology.results.sentences import sentences
from fairyring.ecology.results.study_file import FILE, damaged, plain, read_study, run_path, write_study
from fairyring.ecology.results.sweep_file import (
    RUNS_TABLE,
    SETTINGS_TABLE,
    SWEEP,
    SWEEP_FORM,
    Sweep,
    SweepRun,
    read_sweep,
    write_sweep,
)
from fairyring.ecology.results.tables import Row, rows_of, study_tables, write_csv
from fairyring.ecology.results.verdicts import BEFORE, LEVEL, TOO_FEW, decided, over_worlds

__all__ = [
    "BEFORE",
    "FILE",
    "LEVEL",
    "RUNS_TABLE",
    "SETTINGS_TABLE",
    "SWEEP",
    "SWEEP_FORM",
    "TOO_FEW",
    "Row",
    "Sweep",
    "SweepRun",
    "damaged",
    "decided",
    "over_worlds",
    "plain",
    "read_study",
    "read_sweep",
    "rows_of",
    "run_path",
    "sentences",
    "study_tables",
    "write_csv",
    "write_study",
    "write_sweep",
]
