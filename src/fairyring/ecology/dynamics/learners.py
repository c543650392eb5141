"""How the learning of some affects the learning of others: the Jacobian of what two halves of a population learn.

These learners cannot be differentiated: each has a table Q, and its actions depend on Q discontinuously. So the Jacobian is
measured. A population is split into two random halves. The tables of one half are moved a little along one of two directions, the
world runs on for some steps, and what all have learned is compared with what they learn after a move in the opposite direction.
Both are expressed along unit vectors in the space of all tables together. In these coordinates the Jacobian of a gradient is
symmetric.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.dynamics.jacobian import antisymmetric_share
from fairyring.ecology.history import WorldRun, advance
from fairyring.ecology.world import SIGNAL, World, World2
from fairyring.statistics import permutation_p, sign_rows

_BATCH = 8  # replicates in memory at once, eight worlds each
_LEARNING = 0x4C4A  # the part of the address that separates these random numbers from the world's own
_MOVES = ((0, 0), (0, 1), (1, 0), (1, 1))  # half and trait of each parameter
PARAMETERS = (
    "emission of the first half",
    "response of the first half",
    "emission of the second half",
    "response of the second half",
)


@dataclass(frozen=True)
class LearningJacobian:
    """How a move of the tables of each half changes what both halves then learn.

    Attributes:
        parameters: names, in the order of rows and columns.
        jacobian: `[4][4]`, mean over replicates: rows for what is learned, columns for what was moved; per `steps`, along
            unit vectors of all tables together.
        antisymmetric_share: `|A| / (|S| + |A|)` of it.
        null_share: its mean over random transpositions of replicates, which leave only noise.
        p: probability of as large an antisymmetric part if each replicate were as likely transposed; at least
            2 / 2^replicates.
        between: `|A|` of the blocks between the halves alone, over `|S| + |A|` of the whole Jacobian.
        between_p: as `p`, for those blocks: for learners that rotate about each other.
        steps, moved, replicates: of the measurement.
    """

    parameters: tuple[str, ...]
    jacobian: tuple[tuple[float, ...], ...]
    antisymmetric_share: float
    null_share: float
    p: float
    between: float
    between_p: float
    steps: int
    moved: float
    replicates: int


def learning_jacobians(
    settings: World2,
    worlds: Sequence[WorldRun],
    *,
    steps: int = 32,
    moved: float = 0.1,
    replicates: int = 20,
    seed: int = 0,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The Jacobian of what two halves learn, by central differences, `[worlds, replicates, 4, 4]`, for `judged`.

    `emission` is the mean over states of Q for emitting minus Q for not emitting; `response` is the mean over states with the
    signal of Q for tumbling minus Q for running. To move one of them by h, h / 2 is added to the one Q and subtracted from the
    other in every individual of a half. What is learned is the change of these means from the move to `steps` later, over the
    individuals that survive (children start with their own tables). The two directions of a move share all random numbers. Each
    replicate has its own random numbers and its own halves. Otherwise the world continues as it was.

    The means are taken over different numbers of entries and individuals, so mutual effects on them differ even if all climb one
    function. Therefore the Jacobian is given along unit vectors of the tables of all individuals together, see `in_units`.
    Individuals that die are moved but not measured; the survivors stand for all of their half.

    Args:
        settings: of the worlds: a World2 that learns, with the signal as its last sense.
        worlds: to continue from, in their present state.
        steps: between the move and the measurement.
        moved: h, in units of Q.
        replicates: of each world.
        seed: of all randomness.
        cores: how many to use; all by default.
        progress: called with steps done and steps to do.

    Raises:
        EcologyError: settings that do not learn, or fewer than four alive in a world.
    """
    _refuse(settings, worlds)
    todo = [(world, number) for world in worlds for number in range(replicates)]
    changes, splits = [], []
    for first in range(0, len(todo), _BATCH):
        starts, halves = [], []
        for world, number in todo[first : first + _BATCH]:
            key = jax.random.wrap_key_data(jnp.asarray(world.key))
            key = jax.random.fold_in(jax.random.fold_in(key, _LEARNING + seed), number)
            draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
            half = draw.permutation(len(world.living())) % 2
            splits.append(half)
            state = _packed(settings, world)
            for (part, trait), sign in itertools.product(_MOVES, (1, -1)):
                start = _moved(state, half == part, trait, sign * moved / 2)
                starts.append(WorldRun.new(settings, key, start))
                halves.append(half)
        ended, _ = advance(settings, starts, steps, cores=cores)
        changes += [_learned(*each) for each in zip(starts, ended, halves, strict=True)]
        if progress is not None:
            progress(min(first + _BATCH, len(todo)) * 8 * steps, len(todo) * 8 * steps)
    learned = np.array(changes).reshape(len(todo), 4, 2, 4)
    entries = worlds[0].minds()["values"].shape[1]
    jacobians = [
        in_units((up - down).T / moved, half, entries)
        for (up, down), half in zip(np.moveaxis(learned, 2, 1), splits, strict=True)
    ]
    return np.array(jacobians).reshape(len(worlds), replicates, 4, 4)


def in_units(jacobian: np.ndarray, half: np.ndarray, entries: int) -> np.ndarray:
    """The Jacobian of the four means, expressed along unit vectors of the tables of all individuals together.

    A trait is moved along a direction d of all tables and measured along d / |d|^2, so that a move by h changes the
    measurement by h. If K is the Jacobian of all entries of all tables, that of the means is d_a K d_b / |d_a|^2. The result
    is d_a K d_b / (|d_a| |d_b|), which is symmetric if K is.

    Args:
        jacobian: `[4, 4]`: rows for means that were measured, columns for means that were moved, in the order of
            `PARAMETERS`.
        half: 0 or 1 for each individual.
        entries: of a table.
    """
    lengths = np.array([np.linalg.norm(_direction(half == part, trait, entries)) for part, trait in _MOVES])
    return jacobian * lengths[:, None] / lengths


def judged(
    jacobians: np.ndarray, *, steps: int, moved: float, seed: int = 0, resamples: int = 9999
) -> LearningJacobian:
    """The antisymmetric share of Jacobians, tested by transposition.

    If learning had a potential, the mean Jacobian would be symmetric, and each replicate as likely as its transpose. Null: each
    replicate is transposed or not, in all combinations for up to 16 replicates, and at random beyond. The statistic is the norm
    of the antisymmetric part.

    Args:
        jacobians: `[replicates, 4, 4]`, along unit vectors.
        steps, moved: of the measurement.
        seed: of the null.
        resamples: for the null.

    Raises:
        EcologyError: another shape, or a single replicate.
    """
    j = np.asarray(jacobians, float)
    if j.ndim != 3 or j.shape[1:] != (4, 4) or len(j) < 2 or not np.isfinite(j).all():
        raise EcologyError(
            "jacobians",
            given=f"shape {j.shape}",
            expected="[2 or more, 4, 4], finite",
            do="Measure more replicates.",
        )
    mean = j.mean(0)
    signs, complete = sign_rows(len(j), np.random.default_rng(seed), resamples)
    turning, straight = (j - np.swapaxes(j, 1, 2)) / 2, (j + np.swapaxes(j, 1, 2)) / 2
    drawn = np.einsum("sr,rij->sij", signs, turning) / len(j)
    blocks = np.zeros((4, 4), bool)
    blocks[:2, 2:] = blocks[2:, :2] = True
    symmetric = np.linalg.norm(straight.mean(0))
    sizes = np.sqrt((drawn**2).sum((1, 2)))
    own = float(np.linalg.norm(turning.mean(0)))
    between = float(np.linalg.norm(turning.mean(0)[blocks]))
    slack = 1e-9 * float(np.abs(j).mean())  # rounding of a symmetric Jacobian
    between_sizes = np.sqrt((drawn[:, blocks] ** 2).sum(1))

    return LearningJacobian(
        PARAMETERS,
        tuple(tuple(float(one) for one in row) for row in mean),
        antisymmetric_share(mean),
        float((sizes / (sizes + symmetric)).mean()),
        permutation_p(sizes, own, complete, slack),
        float(between / (own + symmetric)) if own + symmetric else 0.0,
        permutation_p(between_sizes, between, complete, slack),
        steps,
        moved,
        len(j),
    )


def traits(values: np.ndarray) -> np.ndarray:
    """Emission and response of tables Q `[individuals, states * actions]`, as defined in `learning_jacobians`: `[..., 2]`."""
    q = values.reshape(len(values), -1, 2, 4)  # states of the other senses, signal, actions
    emission = q[..., 2:].mean((1, 2, 3)) - q[..., :2].mean((1, 2, 3))
    tumble, run = q[:, :, 1, 1::2].mean((1, 2)), q[:, :, 1, 0::2].mean((1, 2))
    return np.stack([emission, tumble - run], -1)


def _moved(state: Any, who: np.ndarray, trait: int, by: float) -> Any:
    values = np.array(state.mind["values"])
    values[: len(who)] += (by * _direction(who, trait, values.shape[1])).astype(values.dtype)
    return state._replace(mind={**state.mind, "values": values})


def _direction(who: np.ndarray, trait: int, entries: int) -> np.ndarray:
    """The change of the tables of some individuals that raises a trait by 1, as `traits` measures it: `[individuals, entries]`."""
    one = np.zeros((entries // 8, 2, 4))
    if trait == 0:
        one[..., 2:], one[..., :2] = 0.5, -0.5
    else:
        one[:, 1, 1::2], one[:, 1, 0::2] = 0.5, -0.5
    return np.outer(who, one.ravel())


def _learned(before: WorldRun, after: WorldRun, half: np.ndarray) -> np.ndarray:
    """Change of emission and response of each half, over the survivors; founders have the first numbers."""
    uids, n = after.uids(), len(half)
    survivors = np.flatnonzero(uids < n)
    at_start = traits(np.asarray(before.state.mind["values"])[:n])
    at_end = np.full((n, 2), np.nan)
    at_end[uids[survivors]] = traits(after.minds()["values"][survivors])
    return np.concatenate([np.nanmean((at_end - at_start)[half == part], axis=0) for part in (0, 1)])


def _packed(settings: World, world: WorldRun) -> Any:
    """The state of a world at step 0, with its individuals in the first places, in their order."""
    state, living = world.state, world.living()
    rest = np.setdiff1d(np.arange(settings.capacity), living)
    order = np.concatenate([living, rest])
    each = ("alive", "x", "y", "ux", "uy", "energy", "memory", "tumbled", "emitted", "genomes", "mind")
    return state._replace(
        step=np.int32(0),
        **{name: jax.tree.map(lambda rows: np.asarray(rows)[order], getattr(state, name)) for name in each},
    )


def _refuse(settings: World2, worlds: Sequence[WorldRun]) -> None:
    learns = isinstance(settings, World2) and settings.policy.reward is not None
    if not learns or settings.senses[-1] != SIGNAL or settings.actions != 4:
        raise EcologyError(
            "settings", given=settings.policy.name, expected="a World2 that learns, its last sense the signal",
            do="World2().",
        )  # fmt: skip
    if not worlds or min(len(world.living()) for world in worlds) < 4:
        raise EcologyError(
            "worlds", given=len(worlds), expected="one or more, with four or more alive", do="Take others."
        )
