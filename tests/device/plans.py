"""A plan published for devices, with what a device needs to take part in a round of it."""

from functools import cache

import jax
import numpy as np

import fairyring as fr
from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root, shared
from fairyring.messages import Invitation, Manifest
from fairyring.publishing import Package, package
from fairyring.secagg import Identity
from tests.simulation.private_runs import people, plan

SEED, ROUNDS = 5, 3
ENTROPY = bytes(range(100, 132))
AUTHOR = Identity(bytes(range(32)))
PEOPLE = people(4)


@cache
def masked_plan() -> fr.Plan:
    return plan(fr.distributed_noise("skellam", 1.5, shares=2), cohort=3, secure={"minimum_cohort": 3})


@cache
def published(*targets: str) -> Package:
    return package(
        masked_plan(),
        AUTHOR,
        name="digits",
        rounds=ROUNDS,
        columns=masked_plan().task.columns_of(PEOPLE),
        examples=8,
        targets=targets,
        seconds=60.0,
        memory=1 << 30,
    )


def program_of(given: Package, target: str) -> bytes:
    return given.blobs[given.manifest.programs[target]]


def first_model(given: fr.Plan) -> list[np.ndarray]:
    state = given.first_state(of_client(of_round(root(SEED), 0), NOBODY, Purpose.INIT))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


def invitation(_: Manifest, round: int = 1, **changes: object) -> Invitation:
    words = jax.random.key_data(shared(of_round(root(SEED), round), Purpose.SHARED))
    facts: dict[str, object] = {
        "run": "run",
        "session": bytes(16),
        "manifest": bytes(32),
        "round": round,
        "model": bytes(32),
        "previous": None,
        "shared_key": tuple(int(word) for word in words),
        "seconds": 60.0,
        "place": 2,
        "reservation": 7,
    }
    return Invitation(**(facts | changes))  # type: ignore[arg-type]
