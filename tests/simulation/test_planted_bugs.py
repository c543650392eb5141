"""Faults planted in the pipeline, each of which breaks the promise: the canary audit of a run finds them all.

What is claimed is the honest plan's; only what happens is not what was planned.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fairyring as fr
from fairyring.aggregation.contract import BoundStage, Message, MessageSpec, Stage
from fairyring.core.errors import PlanError
from fairyring.privacy.source import NoiseSource
from fairyring.rounds.spending import RoundNoise
from tests.simulation.private_runs import compiled_once, people, plan, run, unguarded

FEATURES = 250
ROUNDS = 8
SLOW = pytest.mark.slow  # for a plan of its own to compile
CANARIES = fr.privacy.Canaries(200)
# Half of 400 are canaries; each of them is in two of the eight rounds.
TURNS = fr.cohort.in_turn(100, separation=4)


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


@pytest.fixture(scope="module")
def population() -> fr.Population:
    return people(400, 1, FEATURES)


def audited(noise: Stage, *before: Stage, bits: int | None = 32) -> fr.Plan:
    """A plan whose clients learn next to nothing, so that what is in a release is noise and canaries."""
    return plan(noise, *before, cohort=TURNS, bits=bits, features=FEATURES, rate=1e-4)


CENTRAL = audited(fr.gaussian_noise(1.0))
CORRELATED = audited(fr.correlated_noise(1.3, bands=4))
SKELLAM = audited(fr.distributed_noise("skellam", 1.0, shares=90))
WEIGHTED = audited(fr.gaussian_noise(1.0), fr.weight_by_examples(bound=6))


def audit(given: fr.Plan, population: fr.Population) -> dict[str, Any]:
    made = run(given, ROUNDS, population, audit=CANARIES)
    assert made.header["privacy"]["releases"] == ROUNDS
    found = made.header["audit"]
    assert found["claimed"] == made.header["privacy"]["spent"]
    assert found["canaries"] == 200
    return found


of_server = NoiseSource.of_server


def halved(source: NoiseSource, round: int, numbers: Mapping[int, int]) -> np.ndarray:
    return np.rint(of_server(source, round, numbers) / 2).astype(np.int64)


# -- what is honest holds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [CENTRAL, SKELLAM, pytest.param(CORRELATED, marks=SLOW), pytest.param(WEIGHTED, marks=SLOW)],
    ids=["central", "skellam", "correlated", "weighted"],
)
def test_an_honest_plan_holds_and_the_audit_sees_most_of_what_it_spends(given, population):
    found = audit(given, population)
    assert found["holds"]
    # An audit that sees nothing would hold as well.
    assert found["empirical"] > 0.4 * found["claimed"]
    assert found["lower"] > 0.2 * found["claimed"]


@SLOW
def test_an_honest_plan_holds_under_the_protocol(population):
    small = people(60, 1, FEATURES)
    given = plan(
        fr.distributed_noise("skellam", 1.0, shares=10),
        cohort=fr.cohort.in_turn(15, separation=4),
        features=FEATURES,
        rate=1e-4,
    )
    made = run(given, 4, small, audit=fr.privacy.Canaries(30), secure_sum="protocol")
    assert made.header["audit"]["holds"]
    assert made.header["audit"]["canaries"] == 30


# -- what is not is found -------------------------------------------------------------------------------------


def planted(honest: Stage, encode: Any) -> Stage:
    """A stage that states what `honest` states and does something else."""

    def bind(spec: MessageSpec) -> BoundStage:
        return honest.bind(spec)._replace(encode=encode)

    return replace(honest, bind=bind)


def test_no_clipping(population, monkeypatch):
    unguarded(monkeypatch)

    def as_it_is(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return message

    given = audited(fr.gaussian_noise(1.0), planted(fr.clip(1.0), as_it_is))
    found = audit(given, population)
    assert found["claimed"] == pytest.approx(audit(CENTRAL, population)["claimed"], rel=1e-3)
    assert not found["holds"]


def test_a_clip_that_is_missing_breaks_no_promise_while_the_grid_looks(population):
    """What is longer than it may be counts as zeros there, whatever was done to it before."""

    def as_it_is(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return message

    found = audit(audited(fr.gaussian_noise(1.0), planted(fr.clip(1.0), as_it_is)), population)
    assert found["holds"]
    assert found["mean"] < 0.2  # no canary is seen at all


@SLOW
def test_a_clip_at_twice_the_norm(population, monkeypatch):
    unguarded(monkeypatch)
    real = fr.clip(2.0)

    def longer(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        bound = real.bind(MessageSpec(message.vector.shape[0], 100))
        return bound.encode(message, client_key, round_key)

    found = audit(audited(fr.gaussian_noise(1.0), planted(fr.clip(1.0), longer)), population)
    assert not found["holds"]


@SLOW
def test_a_weight_without_a_bound(population, monkeypatch):
    unguarded(monkeypatch)

    def as_many_as_they_say(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        weight = message.auxiliary[0] / 6.0
        return Message(
            message.vector * weight, jnp.concatenate([weight[None], message.auxiliary[1:] * weight])
        )

    given = audited(fr.gaussian_noise(1.0), planted(fr.weight_by_examples(bound=6), as_many_as_they_say))
    assert not audit(given, population)["holds"]


def test_half_the_noise(population, monkeypatch):
    monkeypatch.setattr(NoiseSource, "of_server", halved)
    assert not audit(CENTRAL, population)["holds"]


@SLOW
def test_half_the_noise_of_correlated_rounds(population, monkeypatch):
    monkeypatch.setattr(NoiseSource, "of_server", halved)
    assert not audit(CORRELATED, population)["holds"]


def test_the_shares_of_a_quarter_of_the_clients(population, monkeypatch):
    real = NoiseSource.of_clients
    monkeypatch.setattr(
        NoiseSource, "of_clients", lambda self, number, clients: real(self, number, clients // 4)
    )
    assert not audit(SKELLAM, population)["holds"]


def test_the_same_noise_in_every_second_round(population, monkeypatch):
    real = NoiseSource.of_server

    def again(self, round, numbers):
        first = round - (round + 1) % 2  # 1, 1, 3, 3...
        return real(self, round, numbers | {round: numbers[first]})

    monkeypatch.setattr(NoiseSource, "of_server", again)
    found = audit(CENTRAL, population)
    assert not found["holds"]
    assert found["lower"] > 3 * found["claimed"]


def test_noise_that_is_addressed_by_the_length_of_the_sum_alone(population, monkeypatch):
    """As if the address were left out: the same shares in every round."""
    real = NoiseSource.of_clients
    monkeypatch.setattr(NoiseSource, "of_clients", lambda self, number, clients: real(self, 1, clients))
    assert not audit(SKELLAM, population)["holds"]


def test_noise_used_twice_where_one_round_was_tried_again_with_others(population, monkeypatch):
    """Round 6 as a second try of round 5: another cohort under one reservation's noise, once in eight rounds."""
    real = NoiseSource.of_server

    def retried(self, round, numbers):
        return real(self, round, numbers | {round: numbers[5]} if round == 6 else numbers)

    monkeypatch.setattr(NoiseSource, "of_server", retried)
    assert not audit(CENTRAL, population)["holds"]


def test_noise_that_never_reaches_the_sum(population, monkeypatch):
    real = RoundNoise.release

    def forgotten(noise, total, clients, *, shared):
        real(noise, total, clients, shared=shared)
        return total

    monkeypatch.setattr(RoundNoise, "release", forgotten)
    found = audit(CENTRAL, population)
    assert not found["holds"]
    assert found["lower"] > 5 * found["claimed"]


def test_an_audit_without_a_promise(population):
    bare = fr.Plan(
        CENTRAL.task, local=CENTRAL.local, cohort=10, aggregation=fr.chain(fr.clip(1.0), fr.quantize())
    )
    with pytest.raises(PlanError, match=r"for a plan without a budget.*Give the plan a budget"):
        run(bare, population=population, audit=fr.privacy.Canaries(30))
