"""What the dashboard is shown, from what the service keeps."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairyring._version import __version__
from fairyring.core.errors import FairyringError
from fairyring.messages import Manifest, read_manifest
from fairyring.records.folder import RunFolder
from fairyring.records.round_record import Means, RoundRecord
from fairyring.service.front import Front, progress_of
from fairyring.service.pages import (
    Failure,
    Fleet,
    Funnel,
    Process,
    Requests,
    RoundRow,
    RunDetail,
    RunRow,
    Service,
    Snapshot,
)
from fairyring.service.storage import OVER, Run, Storage

# Phases of a session -> the stage of the funnel that a device has passed when it has sent that phase's message.
STAGES = {
    "checked_in": "checked_in",
    "invited": "invited",
    "reporting": "summed",
    "advertising": "advertised",
    "sharing": "shared",
    "masking": "masked",
    "confirming": "confirmed",
    "summed": "summed",
}
WORDS = {
    "reporting": "training",
    "advertising": "training",
    "sharing": "sharing keys",
    "opening": "opening shares",
    "disclosing": "settling disputes",
    "masking": "sending masked updates",
    "confirming": "confirming who is in",
    "unmasking": "unmasking the sum",
}


class Snapshots:
    """Makes snapshots.

    Args:
        front: of this process.
        runs: the folder with the runs' folders.
        address: of the service.
    """

    def __init__(self, front: Front, runs: Path, address: str) -> None:
        self._front, self._storage, self._runs, self._address = front, front.storage, runs, address
        self._started = front.now()
        self._manifests: dict[bytes, Manifest] = {}
        self._served: list[tuple[float, int]] = []

    @property
    def storage(self) -> Storage:
        """What the service keeps."""
        return self._storage

    def snapshot(self) -> Snapshot:
        """The service at this moment."""
        front, now = self._front, self._front.now()
        service = Service(
            version=__version__,
            started=self._started,
            now=now,
            address=self._address,
            processes=(Process(owner=front.owner, address=front.address, leases=len(front.sessions)),),
        )
        runs = sorted(self._storage.runs.all(), key=lambda run: (run.state in OVER, -run.created))
        rows = tuple(self.row(run) for run in runs)
        return Snapshot(service=service, runs=rows, fleet=self._fleet(now), requests=self._requests(now))

    def row(self, run: Run) -> RunRow:
        """A run as it is now."""
        progress, manifest = run.progress, self._manifest(run.manifest)
        session = self._session(run)
        funnel, failures = _funnel(session.get("funnel", {}) or progress.get("funnel", {})), Counter()
        failures.update(progress.get("failures", {}))
        failures.update(session.get("failures", {}))
        promise = manifest.promise if manifest is not None else None
        epsilon = promise.epsilon if promise is not None and math.isfinite(promise.epsilon) else None
        options, phase = run.settings, str(session.get("phase", ""))
        return RunRow(
            id=run.id,
            name=run.name,
            state=run.state,
            wanted=run.wanted,
            round=int(progress.get("round", 0)) + (1 if session else 0),
            rounds=int(progress.get("rounds", options.get("rounds", 0))),
            phase=WORDS.get(phase, phase),
            phase_done=int(session.get("done", 0)),
            phase_expected=int(session.get("expected", 0)),
            phase_deadline=session.get("deadline"),
            cohort=int(progress.get("cohort", 0)),
            loss=progress.get("loss"),
            metrics=progress.get("metrics", {}),
            epsilon_spent=progress.get("epsilon"),
            epsilon=epsilon,
            delta=promise.delta if promise is not None else None,
            bytes_up=int(progress.get("bytes_up", 0)),
            bytes_down=int(progress.get("bytes_down", 0)),
            seconds=float(progress.get("seconds", 0.0)),
            rounds_per_hour=progress.get("rounds_per_hour"),
            funnel=funnel,
            failures=tuple(Failure(reason=reason, count=count) for reason, count in failures.most_common(12)),
            author=run.author.hex(),
            signed=manifest is not None,
            privacy=manifest.statements[-1] if manifest is not None and manifest.statements else "",
            masked=manifest is not None and manifest.terms is not None,
            why=str(progress.get("error", "")),
        )

    def detail(self, run: Run, after: int = 0) -> RunDetail:
        """A run with its rounds after one."""
        manifest = self._manifest(run.manifest)
        folder = self._runs / run.id
        rounds: tuple[RoundRow, ...] = ()
        if folder.is_dir():
            try:
                records = RunFolder.open(folder).records()
                rounds = tuple(_round(record) for record in records if record.round > after)
            except FairyringError:  # it is being begun
                rounds = ()
        report = f"/v1/runs/{run.id}/report" if (folder / "report.html").is_file() else None
        return RunDetail(
            run=self.row(run),
            rounds=rounds,
            document=manifest.document.decode() if manifest is not None else "",
            sentences=manifest.statements if manifest is not None else (),
            report=report,
        )

    def _session(self, run: Run) -> Mapping[str, Any]:
        """How far the session of a run is that goes on; empty without one."""
        for served in list(self._front.sessions.values()):  # another thread changes them
            if served.hosted.run == run.id and not served.hosted.over:
                return progress_of(served.hosted, self._front.now())
        if run.state in OVER:
            return {}
        stored = self._storage.sessions.unfinished(run.id)
        return stored[-1].progress if stored else {}

    def _fleet(self, now: float) -> Fleet:
        devices = self._storage.devices.all()
        active = [device for device in devices if device.seen is not None and now - device.seen < 3600]
        revoked = [device for device in devices if device.revoked is not None]
        return Fleet(
            enrolled=len(devices) - len(revoked),
            revoked=len(revoked),
            active_1h=len(active),
            by_version=dict(Counter(device.version for device in active)),
            by_runtime=dict(Counter(device.runtime for device in active)),
            barred=sum(1 for device in revoked if device.reason.startswith("broke the protocol")),
        )

    def _requests(self, now: float) -> Requests:
        self._served = [one for one in self._served if now - one[0] < 30.0] + [(now, self._front.served)]
        (since, before), (_, served) = self._served[0], self._served[-1]
        return Requests(
            per_second=(served - before) / max(1.0, now - since), refused=dict(self._front.refused)
        )

    def _manifest(self, digest: bytes) -> Manifest | None:
        if digest not in self._manifests:
            try:
                self._manifests[digest] = read_manifest(self._front.blobs.get(digest))
            except FairyringError:
                return None
        return self._manifests[digest]


def _funnel(by_phase: Mapping[str, int]) -> Funnel:
    found: dict[str, int] = {}
    for phase, count in by_phase.items():
        if phase in STAGES:
            found[STAGES[phase]] = int(count)
    if "advertised" in found:
        found["trained"] = found["advertised"]
    elif "summed" in found:
        found["trained"] = found["summed"]
    return Funnel(**found)


def _round(record: RoundRecord) -> RoundRow:
    lost = record.lost_in_noise.columns() if record.lost_in_noise is not None else {}
    said = {
        name: None if lost.get(name) else finite(mean) for name, mean in record.training.columns().items()
    }
    return RoundRow(
        round=record.round,
        loss=said.pop("loss"),
        metrics={name.removeprefix("metrics."): mean for name, mean in said.items()},
        test=means_of(record.test),
        clients=record.clients,
        sampled=record.sampled,
        dropped=record.dropped,
        seconds=record.seconds,
        bytes_up=record.bytes_up,
        bytes_down=record.bytes_down,
        epsilon=record.epsilon,
        aborted=f"{record.aborted.stage}: {record.aborted.reason}" if record.aborted is not None else None,
    )


def finite(value: float | None) -> float | None:
    """A number that JSON has; None of any other."""
    return value if value is not None and math.isfinite(value) else None


def plain_means(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Means that JSON has."""
    return {name: finite(value) for name, value in metrics.items()}


def means_of(means: Means | None) -> dict[str, float | None]:
    """Loss and metrics of an evaluation; empty without one."""
    return {} if means is None else {"loss": finite(means.loss), **plain_means(means.metrics)}
