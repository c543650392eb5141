"""Small worlds that several tests run, and states in which much happens at once.

Numbers of a world are arguments of its program: worlds that differ in them alone share one compilation.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from fairyring.ecology.history.running import compiled
from fairyring.ecology.world.events import OPTIONAL, STANDARD
from fairyring.ecology.world.policies import q_learning
from fairyring.ecology.world.settings import World, World1, World2
from fairyring.ecology.world.state import Log, State, empty

# A capacity that is no power of two, and more than twice as many as are born in a step.
FIRST = World1(width=16, capacity=160, founders=60, minimum=8, sources=3, food_influx=3.0, source_spread=2.0)
HOPPING_BLIND = dataclasses.replace(FIRST, dwell=False, control="blind")

SECOND = World2(width=16, capacity=160, founders=60, minimum=8, sources=3, food_influx=2.0, source_spread=2.0)
REWARDS_SCRAMBLED = dataclasses.replace(
    SECOND,
    dwell=False,
    control="scrambled",
    policy=q_learning("rewards"),
    rewarded=(*STANDARD, *OPTIONAL),
)
EVOLVED_BLIND = dataclasses.replace(SECOND, control="blind", policy=q_learning("evolved values"))
LAMARCK_HOPPING = dataclasses.replace(SECOND, dwell=False, policy=q_learning("lamarck"))


def run(settings: World, state: State, key: np.ndarray, steps: int = 1) -> tuple[State, Log]:
    """At most `running.CHUNK` steps by the compiled program, in NumPy; logs `[steps, ...]`."""
    program = compiled(settings.structure(), settings.capacity, 1)
    after, logs = program(0, state, key, settings.knobs(), np.int32(settings.capacity), np.int32(steps))
    return jax.tree.map(np.array, after), jax.tree.map(lambda rows: np.array(rows)[:steps], logs)


def key_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, 2, dtype=np.uint32)


def rich(settings: World, rng: np.random.Generator, *, share: float = 0.6) -> State:
    """A state of which every branch of the step is taken: crowds in few cells, some at an edge, some about to die or to
    divide, food in heaps; `share` of the places are taken."""
    n, cells = settings.capacity, settings.width
    state = empty(settings, n)
    f = np.float32
    alive = rng.random(n) < share
    spots = rng.random((6, 2)) * cells
    crowded = rng.random(n) < 0.6
    xy = np.where(
        crowded[:, None],
        spots[rng.integers(0, 6, n)] + rng.normal(0, 0.4, (n, 2)),
        rng.random((n, 2)) * cells,
    )
    edge = rng.random(n) < 0.1
    xy[edge, 0] = rng.choice([0.0, 0.01, cells - 0.01, cells - 1e-3], edge.sum())
    xy = (xy % cells).astype(f)
    xy[xy >= cells] = 0
    angle = rng.random(n) * 2 * np.pi
    energy = np.select(
        [rng.random(n) < 0.15, rng.random(n) < 0.4],
        [rng.random(n) * 0.06, settings.division_energy + rng.normal(0, 0.05, n)],
        0.2 + rng.random(n) * 1.6,
    )
    heap = rng.random((cells, cells)) ** 6 * 0.8 * (rng.random((cells, cells)) < 0.7)
    fields = {"food": heap.astype(f)}
    if "signal" in state.fields:
        fields["signal"] = (rng.random((cells, cells)) ** 8).astype(f)

    def given(rows: Any) -> np.ndarray:
        return np.asarray(rows).astype(f) * alive.reshape(-1, *[1] * (np.ndim(rows) - 1))

    mind = state.mind
    if mind:
        entries = settings.states * settings.actions
        values = rng.normal(0, 1, (n, entries)) * (rng.random((n, 1)) < 0.8)  # some know nothing yet
        mind = {
            "values": given(values),
            "place": np.where(rng.random(n) < 0.8, rng.integers(0, entries, n), -1).astype(np.int32),
            "reward": given(rng.normal(0, 1, n)),
        }
    return state._replace(
        step=np.int32(rng.integers(0, 100_000)),
        fields=fields,
        places=(rng.random((settings.sources, 2)) * cells).astype(f),
        alive=alive,
        x=given(xy[:, 0]),
        y=given(xy[:, 1]),
        ux=np.cos(angle).astype(f),
        uy=np.sin(angle).astype(f),
        energy=given(energy),
        memory=given(rng.random(n) ** 4 * 0.5),
        genomes=given(rng.normal(0, 1, (n, settings.genes))),
        mind=mind,
    )


def same_bits(one: Any, other: Any) -> None:
    """Raise unless two trees of arrays are the same to the bit."""
    leaves, others = jax.tree.flatten_with_path(one)[0], jax.tree.flatten_with_path(other)[0]
    assert [path for path, _ in leaves] == [path for path, _ in others]
    for (path, a), (_, b) in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=jax.tree_util.keystr(path))
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), path
