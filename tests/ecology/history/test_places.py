"""Who has which place decides nothing: neither who divides in a full world, nor who is served where a step cannot serve all."""

import dataclasses

import numpy as np
import pytest

from fairyring.ecology.history.evolution import evolve
from fairyring.ecology.history.running import compiled
from fairyring.ecology.world import step
from fairyring.ecology.world.settings import World1
from fairyring.ecology.world.state import NUMBERS, empty
from tests.ecology import oracle, worlds

pytestmark = pytest.mark.optimised


def test_the_order_of_places_favours_nobody() -> None:
    """All founders behave alike: the descendants of the first half and of the second are as many, in the mean."""
    world = dataclasses.replace(worlds.FIRST, beta=0.0, minimum=0, founders=40, basal_cost=0.03)
    run = evolve(world, worlds=60, steps=400, seed=12, cores=1)
    lead = []
    for inhabited in run.worlds:
        founder = inhabited.lineage.founder()[inhabited.uids()]
        lead.append((founder < 20).sum() - (founder >= 20).sum())
    assert not run.metrics["waiting"].any()
    assert run.metrics["births"].sum() > 1000
    assert abs(np.mean(lead)) < 3.5 * np.std(lead) / np.sqrt(len(lead))


def test_a_full_world_favours_nobody_either() -> None:
    """All places are taken and most are ready: who divides where somebody died is not who is in a low place."""
    world = dataclasses.replace(
        worlds.FIRST, beta=0.0, minimum=0, founders=160, conjugation=0.0,
        food_influx=4.0, food_diffusion=0.02, source_lifetime=20.0,
    )  # fmt: skip
    run = evolve(world, worlds=30, steps=1500, seed=14, cores=1)
    low = []
    for inhabited in run.worlds:
        founder = inhabited.lineage.founder()[inhabited.uids()]
        low.append((founder < 80).mean())
    assert (run.metrics["waiting"] > 0).mean() > 0.9
    assert run.metrics["births"].sum() > 1000
    assert not run.metrics["delayed"].any()
    assert abs(np.mean(low) - 0.5) < 3.5 * np.std(low) / np.sqrt(len(low))


def test_a_large_world_has_more_births_a_step_and_draws_whose_they_are() -> None:
    """300 of 3000 are ready for 128 births, and more take genes than 128; also in a program for fewer places."""
    n, places = 3000, 3200
    world = World1(
        width=16, capacity=4096, founders=n, minimum=0, sources=1, uptake_rate=0.0, conjugation=0.3
    )
    rng, key = np.random.default_rng(15), worlds.key_of(15)
    state, among = empty(world, places), np.arange(places)
    ready = np.sort(rng.permutation(n)[:300])
    state = state._replace(
        alive=among < n,
        x=(rng.random(places) * 16).astype(np.float32),
        y=(rng.random(places) * 16).astype(np.float32),
        energy=np.where(np.isin(among, ready), 3, 1).astype(np.float32),
        genomes=rng.normal(0, 1, state.genomes.shape).astype(np.float32),
    )
    program = compiled(world.structure(), places, 1)
    after, log = program(0, state, key, world.knobs(), np.int32(4096), np.int32(1))
    told = dict(zip(NUMBERS, np.asarray(log.numbers)[0].tolist(), strict=True))
    assert (told["births"], told["waiting"], told["delayed"], told["short"]) == (128, 0, 172, 0)
    assert told["conjugations"] == 128
    assert told["unmet"] > 300
    chance = oracle.unit(oracle.Chance(key, 0).pair(step.TIE, 0)[1], 24)
    parents = np.flatnonzero(np.unpackbits(np.asarray(log.divided)[0].view(np.uint8), bitorder="little"))
    assert parents.tolist() == oracle.served(ready.tolist(), 128, chance)
    takers = np.flatnonzero((np.asarray(after.genomes)[:n] != state.genomes[:n]).any(1))
    assert len(takers) == 128
    assert takers.max() > n / 4  # the first 128 of about 850 would lie below
