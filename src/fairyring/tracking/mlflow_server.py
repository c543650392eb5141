"""Runs in MLflow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fairyring.core.extras import require
from fairyring.tracking.tracker import Numbers, Session, TrackedRun

_TAG = "fairyring.run"  # with a run's identity, by which it is found again
_AT_ONCE = 1000  # metrics in one request, as many as MLflow takes
_PARAMS, _LONGEST = 100, 6000  # parameters in one request, and characters of one


@dataclass(frozen=True)
class MlflowTracker:
    """Send the numbers of each run to MLflow: metrics by round, and the plan's settings as parameters.

    A run that is resumed goes on as the same run of MLflow. The active run of `mlflow.start_run` is not touched. Needs the extra
    ``mlflow``.

    Args:
        uri: of the server or the data base: ``"http://..."``, ``"sqlite:///mlflow.db"``; by default what MLFLOW_TRACKING_URI
            or MLflow itself says.
        experiment: the experiment's name; created if there is none.

    Raises:
        MissingExtra: MLflow is not installed.
    """

    uri: str | None = None
    experiment: str = "fairyring"

    def __post_init__(self) -> None:
        require("mlflow", extra="mlflow", purpose="runs in MLflow")

    @property
    def name(self) -> str:
        """For messages; an address may have a password in it, so it is left out."""
        return "mlflow"

    def open(self, run: TrackedRun) -> Session:
        """Create the run, or find it."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found is not None else client.create_experiment(self.experiment)
        earlier = client.search_runs([experiment], f"tags.`{_TAG}` = '{run.identity}'", max_results=1)
        if earlier:
            own = earlier[0].info.run_id
            client.update_run(own, status="RUNNING")
        else:
            own = client.create_run(experiment, tags={_TAG: run.identity}, run_name=run.name).info.run_id
            _log_settings(client, own, run)
        return _Metrics(client, own)


def _log_settings(client: Any, own: str, run: TrackedRun) -> None:
    from mlflow.entities import Param

    params = iter([Param(_key(name), str(value)[:_LONGEST]) for name, value in run.settings.items()])
    while some := list(islice(params, _PARAMS)):
        client.log_batch(own, params=some)


class _Metrics:
    """A run's metrics."""

    def __init__(self, client: Any, own: str) -> None:
        self.client, self.own = client, own

    def log(self, rounds: Sequence[Numbers]) -> None:
        """Send them, many in a request."""
        metrics = self._metrics(rounds)
        while some := list(islice(metrics, _AT_ONCE)):
            self.client.log_batch(self.own, metrics=some)

    def close(self, finished: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.own, "FINISHED" if finished else "FAILED")

    def _metrics(self, rounds: Sequence[Numbers]) -> Iterator[Any]:
        import time

        from mlflow.entities import Metric

        now = int(1000 * time.time())
        for numbers in rounds:
            for name, value in numbers.values.items():
                yield Metric(_key(name), value, now, numbers.round)


def _key(name: str) -> str:
    """A name in characters that MLflow takes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)[:250]
