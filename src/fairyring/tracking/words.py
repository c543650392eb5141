"""Trackers by words, as on a command line: ``csv:metrics``, ``mlflow:sqlite:///mlflow.db``."""

from collections.abc import Callable, Mapping, Sequence

from fairyring.core.errors import PlanError
from fairyring.tracking.csv_file import CsvTracker
from fairyring.tracking.mlflow_server import MlflowTracker
from fairyring.tracking.tensorboard_events import TensorBoardTracker
from fairyring.tracking.tracker import Track, Tracker
from fairyring.tracking.wandb_project import WandbTracker

# With what follows the colon, or without.
_MAKERS: Mapping[str, Callable[..., Tracker]] = {
    "csv": CsvTracker,
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}
_EXPECTED = "csv:FOLDER, tensorboard:FOLDER, mlflow:URI, wandb:PROJECT, or an object with name and open(run)"


def trackers_from(track: Track) -> list[Tracker]:
    """The trackers that are meant by an argument `track`.

    Raises:
        PlanError: one is no tracker.
        MissingExtra: one needs a package that is not installed.
    """
    several = track if isinstance(track, Sequence) and not isinstance(track, str) else [track]
    return [_tracker(one) for one in several]


def _tracker(one: object) -> Tracker:
    if isinstance(one, Tracker):
        return one
    if isinstance(one, str):
        name, colon, where = one.partition(":")
        if name in _MAKERS and (where or not colon):
            return _MAKERS[name](where) if where else _MAKERS[name]()
    raise PlanError(
        "track", given=repr(one)[:80], expected=_EXPECTED, do="Give one of those, or a list of them."
    )
