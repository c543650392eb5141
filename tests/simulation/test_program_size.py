"""What a round's program is made of. A change that makes it slower mostly shows here, on whatever machine, as operators or bytes.

A count may rise by a tenth. If it has to rise by more, or has fallen, record what is printed.
"""

import re
from collections import Counter

import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.keys import root
from fairyring.lowering import hardware
from fairyring.rounds.cohorts import CohortSampler
from fairyring.simulation import CompiledWorker, assemble

pytestmark = pytest.mark.optimised

# Operators of a client's round as compiled for one core: fusions, each a pass over memory; products; copies; and temporary bytes.
RECORDED = {
    "logistic regression": (86, 4, 91, 10_600),
    "2NN": (123, 12, 96, 715_144),
    "2NN, FedProx": (123, 12, 96, 715_216),
}


def executable(name: str):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 64)).astype(np.float32)
    y = rng.integers(0, 10, 400).astype(np.int32)
    people = fr.Population.from_arrays({"x": x, "y": y}, client=np.repeat(np.arange(20), 20))
    model = (
        fr.zoo.logistic_regression(features=64, classes=10)
        if name == "logistic regression"
        else fr.zoo.two_nn(features=64, hidden=200, classes=10)
    )
    algorithm = {"algorithm": fr.fedprox(0.1)} if "FedProx" in name else {}
    plan = fr.Plan(
        fr.classification(model), fr.LocalTraining(optax.sgd(0.1), batch_size=10), cohort=5, **algorithm
    )
    key = root(0)
    parts = assemble(plan, people, key, hardware(plan.layout.size, processors=1))
    worker = CompiledWorker(parts.engine, parts.rows, CohortSampler(plan.rule, people, 0), key, None)
    worker.warm(parts.program.placed(parts.first), 0)
    (loaded,) = parts.engine.accumulate.loaded[0].values()
    return loaded.executable


@pytest.mark.dealt(3, "name")
@pytest.mark.parametrize("name", RECORDED)
def test_a_round_is_made_of_no_more_than_before(name):
    compiled = executable(name)
    operators = Counter(re.findall(r"= \S+ ([a-z][\w-]*)\(", compiled.as_text()))
    counts = [operators[kind] for kind in ("fusion", "dot", "copy")]
    now = (*counts, compiled.memory_analysis().temp_size_in_bytes)
    print(name, now)
    for count, before in zip(now, RECORDED[name], strict=True):
        assert count <= 1.1 * before, f"{now} now, {RECORDED[name]} recorded"
