"""A snapshot as Prometheus reads it."""

from collections.abc import Iterable, Mapping

from fairyring.service.pages import Snapshot


def metrics_text(snapshot: Snapshot) -> str:
    """A snapshot in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []

    def add(
        name: str, kind: str, about: str, values: Iterable[tuple[Mapping[str, str], float | None]]
    ) -> None:
        lines.extend((f"# HELP fairyring_{name} {about}", f"# TYPE fairyring_{name} {kind}"))
        for labels, value in values:
            if value is not None:
                lines.append(f"fairyring_{name}{_labels(labels)} {value:g}")

    fleet, requests, runs = snapshot.fleet, snapshot.requests, snapshot.runs

    def of_runs(field: str) -> Iterable[tuple[Mapping[str, str], float | None]]:
        return [({"run": run.id, "name": run.name}, getattr(run, field)) for run in runs]

    add("devices_enrolled", "gauge", "Devices that may take part.", [({}, fleet.enrolled)])
    add("devices_revoked", "gauge", "Devices that may not any more.", [({}, fleet.revoked)])
    add("devices_active", "gauge", "Devices heard of within an hour.", [({}, fleet.active_1h)])
    add("requests_per_second", "gauge", "Requests served a second, of late.", [({}, requests.per_second)])
    add(
        "requests_refused_total", "counter", "Requests refused, by kind.",
        [({"kind": kind}, count) for kind, count in sorted(requests.refused.items())],
    )  # fmt: skip
    add("run_round", "gauge", "Round that is open, or the last.", of_runs("round"))
    add("run_loss", "gauge", "Mean training loss of the last round.", of_runs("loss"))
    add("run_epsilon_spent", "gauge", "Epsilon that was spent.", of_runs("epsilon_spent"))
    add("run_epsilon_budget", "gauge", "Epsilon that may be spent.", of_runs("epsilon"))
    add("run_bytes_up_total", "counter", "Bytes that devices sent.", of_runs("bytes_up"))
    add("run_bytes_down_total", "counter", "Bytes that devices received.", of_runs("bytes_down"))
    add(
        "run_state", "gauge", "1 for the state that a run is in.",
        [({"run": run.id, "name": run.name, "state": run.state}, 1) for run in runs],
    )  # fmt: skip
    add(
        "run_failures_total", "counter", "Devices that left a round, by reason.",
        [({"run": run.id, "reason": f.reason}, f.count) for run in runs for f in run.failures],
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
