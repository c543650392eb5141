"""Run folders as the engine writes them, made up, so that the report is tested without training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

RUN: dict[str, Any] = {
    "fairyring": "0.1.0",
    "form": 3,
    "status": "finished",
    "seed": 0,
    "rounds": 60,
    "fingerprint": "4f1c09a77be2d5e3",
    "versions": {"python": "3.11.7", "jax": "0.10.2", "jaxlib": "0.10.2", "numpy": "2.4.6", "optax": "0.2.8"},
    "machine": {
        "cpu": "Intel Xeon",
        "cores": 2,
        "memory_gib": 7.8,
        "system": "Linux 6.1 x86_64",
        "devices": ["cpu"],
    },
    "started": "2026-11-21T20:41:42+00:00",
    "seconds": 21.4,
    "compile_seconds": 3.2,
    "dropout": 0.05,
    "assumptions": [
        {
            "kind": "assumed",
            "title": "An honest server",
            "text": "The server follows the protocol and looks at nothing but what it is sent.",
        },
        {
            "kind": "not_private",
            "title": "Updates in the clear",
            "text": "Each client's change to the model was added in the clear on this machine.",
        },
        {
            "kind": "not_private",
            "title": "No differential privacy",
            "text": "No noise was added: the model may remember single examples.",
        },
        {
            "kind": "private",
            "title": "Examples stayed apart",
            "text": "No client's local training read the examples of another.",
        },
    ],
}
PLAN: dict[str, Any] = {
    "task": {"name": "classification", "model": "two hidden layers, 64-200-200-10"},
    "local": {"optimizer": "sgd(0.1)", "epochs": 1, "batch_size": 10, "shuffle": True},
    "aggregation": ["weight_by_examples()", "clip(10.0)"],
    "server": "sgd(1.0)",
    "cohort": 10,
    "bytes_up": 222_848,
    "dropout": 0.05,
    "privacy": None,
}


def make_run_folder(
    folder: Path,
    *,
    rounds: int = 60,
    clients: int = 100,
    test_clients: int = 100,
    evaluate_every: int = 5,
    seed: int = 0,
    run: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
    ids: list[str] | None = None,
) -> Path:
    """A finished run of `rounds` rounds on skewed digits, evaluated now and then; `run` and `plan` override fields,
    `ids` names the clients."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "run.json", RUN | {"rounds": rounds} | (run or {}))
    _write(folder / "plan.json", PLAN | (plan or {}))
    sizes = np.maximum(1, rng.lognormal(2.5, 0.5, clients)).astype(np.int32)
    quantiles = dict(
        zip(("min", "p10", "median", "p90", "max"), np.percentile(sizes, [0, 10, 50, 90, 100]), strict=True)
    )
    _write(
        folder / "population.json",
        {
            "clients": clients,
            "examples": int(sizes.sum()),
            "skipped": 2,
            "sizes": quantiles,
            "test": {"clients": test_clients, "examples": 360} | ({"ids": ids} if ids else {}),
            **({"ids": ids} if ids else {}),
        },
    )
    participation, lines = np.zeros(clients, np.int32), []
    for number in range(1, rounds + 1):
        cohort = rng.choice(clients, 10, replace=False)
        dropped = int(rng.random() < 0.3)
        reported = cohort[dropped:]
        participation[reported] += 1
        progress = 1 - np.exp(-number / 12)
        record: dict[str, Any] = {
            "round": number,
            "loss": float(0.15 + 2.1 * (1 - progress) + abs(rng.normal(0, 0.06))),
            "metrics": {"accuracy": float(min(1.0, 0.1 + 0.86 * progress + rng.normal(0, 0.025)))},
            "clients": len(reported),
            "sampled": 10,
            "dropped": dropped,
            "nonfinite": 0,
            "examples": int(sizes[reported].sum()) * 5,
            "bytes_up": 222_848 * len(reported),
            "bytes_down": 222_840 * 10,
            "seconds": 4.1 if number == 1 else float(0.28 + rng.gamma(2.0, 0.01)),
        }
        if number % evaluate_every == 0 or number == rounds:
            record["test"] = {
                "loss": 0.2 + 2.0 * (1 - progress),
                "metrics": {"accuracy": 0.1 + 0.85 * progress},
            }
        lines.append(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    arrays = {"participation": participation, "examples": sizes}
    if test_clients:
        examples = np.maximum(1, rng.poisson(12, test_clients)).astype(np.int32)
        accuracy = rng.binomial(examples, np.clip(rng.normal(0.94, 0.06, test_clients), 0, 1)) / examples
        arrays |= {
            "test.examples": examples,
            "test.metrics.accuracy": accuracy.astype(np.float32),
            "test.loss": (1.2 - accuracy).astype(np.float32),
        }
    save_file(arrays, folder / "clients.safetensors")
    return folder


def several_tests(folder: Path, names: list[str], metrics: list[str]) -> None:
    """Change a run so that it was tested on populations of these names, by these metrics, on each one tenth worse than before."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in lines:
        if "test" in record:
            accuracy = record["test"]["metrics"]["accuracy"]
            record["tests"] = {
                name: {"loss": 1.0 + place, "metrics": dict.fromkeys(metrics, accuracy * 0.9**place)}
                for place, name in enumerate(names)
            }
            record["test"] = record["tests"][names[0]]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))
