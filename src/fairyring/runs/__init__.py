"""What a run gives, whoever drove it: its models and their predictions, its records; in memory, or loaded from its folder."""

from fairyring.runs.exporting import SUFFIXES, export_model
from fairyring.runs.model import TrainedModel
from fairyring.runs.results import Results
from fairyring.runs.run import Run
from fairyring.runs.saved import SavedRun, load_run
from fairyring.runs.starting import StartsFrom, init_in, starting_params

__all__ = [
    "SUFFIXES",
    "Results",
    "Run",
    "SavedRun",
    "StartsFrom",
    "TrainedModel",
    "export_model",
    "init_in",
    "load_run",
    "starting_params",
]
