"""A million clients, and memory that neither cohort nor rounds make grow."""

import json
import subprocess
import sys
import textwrap
from functools import cache

import pytest

from tests.processes.fairyring_test_programs import as_users

pytestmark = pytest.mark.optimised


@cache
def measured(program):
    """What a program of its own prints as JSON on its last line.

    Its peak of memory is `VmHWM`: `ru_maxrss` is not less than what this process had when it started the other.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=400,
        env=as_users(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_million_clients(tmp_path):
    """1,000,000 clients x 50 examples, from disk: opened in under a second, trained in under 2 GiB, with states."""
    figures = measured(f"""
        import json, re, time
        from pathlib import Path
        import numpy as np
        import optax
        import fairyring as fr

        folder = Path({str(tmp_path)!r}) / "people"
        clients, each = 1_000_000, 50
        rows = np.zeros((clients * each, 4), np.uint8)
        rows[::7] = 200
        rows[:, 1] = np.resize(np.arange(251, dtype=np.uint8), len(rows))
        labels = (rows[:, 1] > 125).astype(np.int8)
        fr.Population({{"x": rows, "y": labels}}, np.arange(clients) * each, np.full(clients, each)).save(folder)
        del rows, labels
        began = time.perf_counter()
        people = fr.Population.open(folder)
        opened = time.perf_counter() - began

        task = fr.classification(fr.zoo.logistic_regression(features=4, classes=2))
        plan = fr.Plan(task, local=fr.LocalTraining(optax.sgd(0.1)), cohort=1000, algorithm=fr.scaffold(), aggregation=fr.chain())
        run = fr.simulate(plan, people, rounds=5, run=Path({str(tmp_path)!r}) / "run")
        print(json.dumps({{
            "opened": opened,
            "reported": int(run.participation.sum()),
            "loss": [r.loss for r in run.records],
            "peak_gib": int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**20,
        }}))
    """)
    assert figures["opened"] < 1.0
    assert figures["reported"] == 5000
    assert figures["loss"][-1] < figures["loss"][0]
    assert figures["peak_gib"] < 2.0


MEMORY = """
    import json, re, resource
    from pathlib import Path
    import numpy as np
    import optax
    import fairyring as fr
    import fairyring.simulation.feed as feeding

    def current():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20

    feeding.RESIDENT_BYTES = {resident}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_500 * 5, 64)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    people = fr.Population({{"x": x, "y": y}}, np.arange(2_500) * 5, np.full(2_500, 5))
    task = fr.classification(fr.zoo.two_nn(features=64, classes=2))
    plan = fr.Plan(task, local=fr.LocalTraining(optax.sgd(0.1)), cohort={cohort})
    peaks = []
    fr.simulate(plan, people, rounds={rounds}, on_round=lambda r: peaks.append(current()))
    print(json.dumps({{"peak": int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024, "first": peaks[len(peaks) // 4], "last": peaks[-1]}}))
"""


SMALL_ROUNDS = 750


@pytest.mark.slow
@pytest.mark.dealt(2, "resident")
@pytest.mark.parametrize("resident", [1 << 30, 0], ids=["resident", "streamed"])
def test_memory_does_not_grow_with_the_cohort(resident):
    """The same number of local trainings, in many small rounds and in a few large ones.

    The allocator's arenas fill over the first thousands of trainings, whoever does them. A client's update is 0.2 MB: to
    keep those of a cohort would double the peak.
    """
    few = measured(MEMORY.format(cohort=10, rounds=SMALL_ROUNDS, resident=resident))
    many = measured(MEMORY.format(cohort=2_500, rounds=SMALL_ROUNDS // 250, resident=resident))
    assert many["peak"] < 1.1 * few["peak"]


@pytest.mark.slow
def test_memory_does_not_grow_with_rounds():
    figures = measured(MEMORY.format(cohort=10, rounds=SMALL_ROUNDS, resident=1 << 30))
    assert figures["last"] < 1.05 * figures["first"]
