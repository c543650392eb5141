"""The bits of small runs of every kind, as they have always been: a change of the house changes none of them.

What is recorded lies in `tests/vectors/bits.json`. Whole numbers are compared on every machine. Floats are compared to the bit on
a machine like the one they were recorded on, and to a tolerance on any other: compilers add in another order there.

    python -m tests.simulation.test_bits      record them anew, when they are meant to change
"""

import hashlib
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.privacy.ledger import Ledger
from fairyring.records.layout import LEDGER, SUM
from fairyring.simulation import feed
from tests.learning.linear import people, task
from tests.simulation import private_runs as private

pytestmark = pytest.mark.optimised

RECORDED = Path(__file__).parent.parent / "vectors" / "bits.json"
SIZES = [7, 12, 4, 9, 31, 2, 5, 8]
COUNTS = "round", "clients", "sampled", "dropped", "nonfinite", "examples", "bytes_up", "bytes_down"
VALUES = "loss", "metrics.accuracy", "snr", "noise", "epsilon"
ROUNDS = 4


def plain(**parts: Any) -> fr.Plan:
    local = fr.LocalTraining(optax.sgd(0.2, momentum=0.5), epochs=2, batch_size=4)
    return fr.Plan(task(), **({"local": local, "server": fr.fedavgm(0.7), "cohort": 5} | parts))


def masked(bits: int = 24) -> fr.Plan:
    return plain(cohort=6, aggregation=fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum(bits)))


def turns(**parts: Any) -> dict[str, Any]:
    return {"cohort": fr.cohort.in_turn(10, separation=4), "bits": None} | parts


def go(given: fr.Plan, folder: Path, **options: Any) -> fr.Run:
    settings = {"rounds": ROUNDS, "seed": 11, "processors": 1, "run": folder} | options
    if given.privacy is not None:
        return private.run(given, **({"population": private.people()} | settings))
    return fr.simulate(given, people(SIZES), test=people([5, 6], seed=9), evaluate_every=2, **settings)


class Interrupted(Exception):
    """What stops a run in the middle."""


def resumed(given: fr.Plan, folder: Path) -> fr.Run:
    """Interrupted after round 3, and resumed from the checkpoint after round 2."""

    def interrupt(record: Any) -> None:
        if record.round == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        go(given, folder, checkpoint_every=2, on_round=interrupt)
    return go(given, folder, resume=True)


def streamed(folder: Path) -> fr.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "RESIDENT_BYTES", 0)
        patch.setattr(feed, "PIECE_BYTES", 1 << 10)
        return go(plain(), folder)


def by_example(folder: Path) -> fr.Run:
    given = fr.Plan(
        private.task(),
        local=fr.LocalTraining(
            optax.sgd(0.2),
            steps=3,
            batch_size=2,
            rate=0.5,
            examples=fr.chain(fr.clip(1.0), fr.gaussian_noise()),
        ),
        cohort=6,
        aggregation=fr.chain(),
        privacy=fr.Budget(20.0, 1e-3, rounds=ROUNDS, unit="example"),
    )
    return go(given, folder)


RUNS: dict[str, Callable[[Path], fr.Run]] = {
    "plain": lambda f: go(plain(), f),
    "two cores, dropout": lambda f: go(masked(), f, processors=2, dropout=0.2),
    "fedprox": lambda f: go(plain(algorithm=fr.fedprox(0.1)), f),
    "fednova": lambda f: go(plain(algorithm=fr.fednova(momentum=0.5)), f),
    "scaffold": lambda f: go(plain(algorithm=fr.scaffold(), aggregation=fr.chain()), f),
    "steps": lambda f: go(plain(local=fr.LocalTraining(optax.adam(0.05), steps=7, batch_size=4)), f),
    "streamed": streamed,
    "resumed": lambda f: resumed(plain(), f),
    "scaffold resumed": lambda f: resumed(plain(algorithm=fr.scaffold(), aggregation=fr.chain()), f),
    "secure sum, ideal": lambda f: go(masked(), f, dropout=0.1),
    "secure sum, protocol": lambda f: go(masked(), f, dropout=0.1, secure_sum="protocol", processors=2),
    "central noise": lambda f: go(private.plan(fr.gaussian_noise(1.5)), f),
    "adaptive clip": lambda f: go(
        private.plan(fr.gaussian_noise(1.5), bits=None, algorithm=fr.adaptive_clip(0.5)), f
    ),
    "correlated noise": lambda f: resumed(
        private.plan(fr.correlated_noise(bands=4), budget=fr.Budget(8.0, 1e-5, rounds=12), **turns()), f
    ),
    "distributed noise": lambda f: go(
        private.plan(fr.distributed_noise("skellam", 1.5, shares=5), bits=22),
        f,
        secure_sum="protocol",
        dropout=0.1,
    ),
    "poisson": lambda f: go(
        private.plan(fr.gaussian_noise(1.5), cohort=fr.cohort.poisson(0.25, maximum=40), bits=None), f
    ),
    "examples": by_example,
}


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def described(name: str, folder: Path) -> dict[str, Any]:
    """What a run came to: its whole numbers, its bits, and its floats."""
    run = RUNS[name](folder)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run.state)]
    rows = [record.columns() for record in run.records]
    counts = [[row[column] for column in COUNTS] for row in rows]
    values = [[float(row.get(column, 0.0)) for column in VALUES] for row in rows]
    tests = [list(record.test.columns().values()) for record in run.records if record.test is not None]
    entries = []
    if (folder / LEDGER).is_file():
        entries = [(r.round, r.digest) for r in Ledger.read(folder / LEDGER).reservations.values()]
    sums = [
        (folder / SUM.format(n)).read_bytes() for n in range(ROUNDS + 1) if (folder / SUM.format(n)).is_file()
    ]
    model = np.concatenate([leaf.ravel().astype(float) for leaf in leaves])
    return {
        "counts": counts,
        "participation": run.participation.tolist(),
        "bits": {
            "model": digest(*(leaf.tobytes() for leaf in leaves)),
            "records": digest(msgspec.json.encode([values, tests])),
            "ledger": digest(msgspec.json.encode(entries)),
            "sums": digest(*sums),
        },
        "near": [float(np.linalg.norm(model)), *model[:: max(1, len(model) // 7)].tolist(), *values[-1]],
    }


def machine() -> str:
    """Machines of one name give the same bits. Processors of one name may be of several generations."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()]
    about = {key.strip(): value.strip() for key, _, value in lines}
    cpu = " ".join(about.get(key, "") for key in ("model name", "cpu family", "model", "stepping"))
    return f"{cpu}, jaxlib {jax.lib.__version__}, numpy {np.__version__}, {platform.machine()}"


@pytest.mark.parametrize("name", RUNS)
def test_the_bits_are_those_of_always(name, tmp_path):
    recorded = json.loads(RECORDED.read_text())
    before, now = recorded["runs"][name], described(name, tmp_path / "run")
    assert now["counts"] == before["counts"]
    assert now["participation"] == before["participation"]
    np.testing.assert_allclose(now["near"], before["near"], rtol=0.02, atol=2e-3)
    if machine() == recorded["machine"]:
        assert now["bits"] == before["bits"]


def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: described(name, Path(folder) / str(i)) for i, name in enumerate(RUNS)}
    RECORDED.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    record()
