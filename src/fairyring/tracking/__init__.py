"""Trackers: a run's numbers while it goes on, in a CSV file, TensorBoard, MLflow or Weights & Biases."""

from fairyring.tracking.csv_file import CsvTracker
from fairyring.tracking.delivery import Delivery, deliver
from fairyring.tracking.mlflow_server import MlflowTracker
from fairyring.tracking.tensorboard_events import TensorBoardTracker
from fairyring.tracking.tracker import Named, Numbers, Session, Track, TrackedRun, Tracker
from fairyring.tracking.wandb_project import WandbTracker
from fairyring.tracking.words import trackers_from

__all__ = [
    "CsvTracker",
    "Delivery",
    "MlflowTracker",
    "Named",
    "Numbers",
    "Session",
    "TensorBoardTracker",
    "Track",
    "TrackedRun",
    "Tracker",
    "WandbTracker",
    "deliver",
    "trackers_from",
]
