"""Small private plans, and what is needed to look behind them: shared by the tests of private simulations."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import fairyring as fr
from fairyring.aggregation.contract import Stage
from fairyring.privacy import stages
from fairyring.privacy.ledger import History, Ledger
from fairyring.privacy.release import OfRound, Release
from fairyring.records.layout import LEDGER
from fairyring.rounds.spending import RoundNoise
from fairyring.simulation import assembly
from fairyring.task import Task

FEATURES, CLASSES = 60, 4
ENTROPY = bytes(range(100, 132))
DELTA = 1e-5


@cache
def task(features: int = FEATURES) -> Task:
    """One object: what was compiled of a task is kept with it."""

    def init(key: jax.Array) -> Any:
        return {"b": jnp.zeros((CLASSES,)), "w": 0.1 * jax.random.normal(key, (features, CLASSES))}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return x @ params["w"] + params["b"]

    return fr.classification((init, apply), loss_bound=5.0)


def people(clients: int = 40, examples: int = 3, features: int = FEATURES) -> fr.Population:
    """Clients with `examples` examples each, those with an odd number one more."""
    sizes = examples + np.arange(clients) % 2
    owner = np.repeat(np.arange(clients), sizes)
    dice = np.random.default_rng(8)
    x = dice.normal(size=(len(owner), features)).astype(np.float32)
    y = np.argmax(x @ dice.normal(size=(features, CLASSES)), axis=1).astype(np.int32)
    return fr.Population.from_arrays({"x": x, "y": y}, client=owner, clients=np.arange(clients))


def plan(
    noise: Stage,
    *before: Stage,
    cohort: Any = 10,
    budget: fr.Budget | None = None,
    bits: int | None = 24,
    secure: dict[str, Any] | None = None,
    features: int = FEATURES,
    rate: float = 0.2,
    **more: Any,
) -> fr.Plan:
    """A plan of `clip(1), before..., noise, secure_sum(bits)`; without a secure sum if `bits` is None.

    If a stage before the noise clips, no other does.
    """
    first = [] if any(stage.bounds_influence for stage in before) else [fr.clip(1.0)]
    last = [] if bits is None else [fr.secure_sum(bits, **(secure or {}))]
    return fr.Plan(
        task(features),
        local=fr.LocalTraining(optax.sgd(rate), epochs=1, batch_size=4),
        cohort=cohort,
        aggregation=fr.chain(*first, *before, noise, *last),
        privacy=budget or fr.Budget(float("inf"), DELTA),
        **more,
    )


def run(given: fr.Plan, rounds: int = 3, population: fr.Population | None = None, **options: Any) -> fr.Run:
    settings = {"seed": 5, "entropy": ENTROPY, "processors": 1} | options
    return fr.simulate(given, population or people(), rounds=rounds, **settings)


def same_state(a: fr.Run, b: fr.Run) -> bool:
    pairs = zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


def ledger(folder: Path) -> History:
    return Ledger.read(folder / LEDGER)


def counted(counts: Mapping[OfRound, int]) -> int:
    """How many releases there are in counts of rounds."""
    return sum(n * (1 if isinstance(of, Release) else len(of)) for of, n in counts.items())


def unguarded(patch: pytest.MonkeyPatch) -> None:
    """Take the guard off the grids of plans that are made from now on: they round a vector however long it is."""
    real = stages.fit
    patch.setattr(stages, "fit", lambda *given: replace(real(*given), reach=1e15))


class Releases:
    """What goes into a round's release and what comes out of it, as a run makes them.

    Attributes:
        totals, noisy: the sums before and after the server's part of the noise, signed.
        clients: how many are in each.
        numbers: of their reservations.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.totals: list[np.ndarray] = []
        self.noisy: list[np.ndarray] = []
        self.clients: list[int] = []
        self.numbers: list[int] = []
        real = RoundNoise.release

        def release(noise: RoundNoise, total: np.ndarray, clients: int, *, shared: bool) -> np.ndarray:
            noisy = real(noise, total, clients, shared=shared)
            self.totals.append(np.array(total))
            self.noisy.append(np.array(noisy))
            self.clients.append(clients)
            self.numbers.append(noise.number)
            return noisy

        patch.setattr(RoundNoise, "release", release)

    def noise(self, bits: int = 32) -> np.ndarray:
        """What was added to each sum, int64 `[rounds, length]`, of sums modulo `2^bits`."""
        return np.array(
            [
                signed(after.view(np.uint32) - before.view(np.uint32), bits)
                for before, after in zip(self.totals, self.noisy, strict=True)
            ]
        )


def signed(words: np.ndarray, bits: int) -> np.ndarray:
    """uint32 words modulo `2^bits` as the signed whole numbers they stand for: int64."""
    wide = words.astype(np.int64) & ((1 << bits) - 1)
    return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide)


def is_of_variance(drawn: np.ndarray, variance: float) -> bool:
    """Whether the mean square of nearly normal numbers is that of this variance; once in 10^6 it is not."""
    drawn = np.ravel(drawn).astype(float)
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], len(drawn)) / len(drawn)
    return bool(low <= float(np.mean(drawn**2)) / variance <= high)


@contextmanager
def compiled_once() -> Iterator[None]:
    """A plan is compiled once a module, for all its runs: what a program computes depends on its arguments alone."""
    engines: dict[Any, Any] = {}
    servers: dict[Any, Any] = {}
    engine, program = assembly.Engine, assembly.ServerProgram

    def kept(given: fr.Plan, workload: Any, clients: int, hardware: Any) -> Any:
        key = id(given), clients, str(workload), str(hardware)
        if key not in engines:
            engines[key] = given, engine(given, workload, clients, hardware)
        return engines[key][1]

    def served(given: fr.Plan, clients: int, root: Any, device: Any, options: Any) -> Any:
        key = id(given), clients, device
        if key not in servers:
            servers[key] = given, program(given, clients, root, device, options)
        return servers[key][1].with_root(root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "Engine", kept)
        patch.setattr(assembly, "ServerProgram", served)
        yield
