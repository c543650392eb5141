"""How the learning of some bends the learning of others: the Jacobian of what two halves of a population learn.

Learners here have no parameters one could differentiate by: each has a table Q, and what it does next depends on it by jumps. So
the Jacobian is measured. A population is cut in two halves at random, the tables of one half are moved a little along one of
two directions, the world runs on for some steps, and what all have learned since is compared with what they learn when
moved the other way. Both are told along unit vectors of all tables together, the coordinates in which the Jacobian of a gradient is
its own transpose.
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
_LEARNING = 0x4C4A  # the part of the address that tells this chance from the world's own
_MOVES = ((0, 0), (0, 1), (1, 0), (1, 1))  # half and trait of each parameter
PARAMETERS = (
    "emission of the first half",
    "response of the first half",
    "emission of the second half",
    "response of the second half",
)


@dataclass(frozen=True)
class LearningJacobian:
    """How moving each half's tables changes what both halves then learn.

    Attributes:
        parameters: names, in the order of rows and columns.
        jacobian: `[4][4]`, mean over replicates: rows what is learned, columns what was moved; per `steps`, along unit
            vectors of all tables together.
        antisymmetric_share: `|A| / (|S| + |A|)` of it.
        null_share: mean of the same over transpositions: replicates turned round at random, which leaves noise alone.
        p: chance of as large an antisymmetric part if each replicate were as likely transposed; 2 / 2^replicates at least.
        between: `|A|` of the blocks between halves alone, over `|S| + |A|` of the whole.
        between_p: as `p`, of those blocks: of learners that turn about each other.
        steps, moved, replicates: how it was measured.
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
    """The Jacobian of what two halves learn by central differences, `[worlds, replicates, 4, 4]`, for `judged`.

    `emission` is the mean over states of Q of emitting less Q of not; `response` the mean over states with the signal of
    Q of tumbling less Q of running. Moving one by h is adding h / 2 to the one and taking it from the other, in everybody
    of a half. What is learned is the change of these means from after the move to after `steps`, over those who live
    through it and no others (children start with tables of their own). Both ways of a move share all chance numbers; each
    replicate has its own, and cuts the halves anew. The world is otherwise its own: it goes on from where it was.

    These means are read from different numbers of entries and individuals, so what one does to another is not what the
    other does to it even where all climb one function. The Jacobian is therefore given along unit vectors of the tables of all
    together: `in_units`. Those who die are moved and not read; who lives on stands for all of its half.

    Args:
        settings: of the worlds: a World2 that learns, with the signal as its last sense.
        worlds: from whose present state to go on.
        steps: after which is looked.
        moved: h, in units of Q.
        replicates: of each world.
        seed: of all chance.
        cores: how many to use; all by default.
        progress: called with steps made and steps to make.

    Raises:
        EcologyError: settings that do not learn, or fewer than four alive in a world.
    """
    _refuse(settings, worlds)
    todo = [(world, number) for world in worlds for number in range(replicates)]
    made, cuts = [], []
    for first in range(0, len(todo), _BATCH):
        starts, halves = [], []
        for world, number in todo[first : first + _BATCH]:
            key = jax.random.wrap_key_data(jnp.asarray(world.key))
            key = jax.random.fold_in(jax.random.fold_in(key, _LEARNING + seed), number)
            draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
            half = draw.permutation(len(world.living())) % 2
            cuts.append(half)
            state = _packed(settings, world)
            for (part, trait), way in itertools.product(_MOVES, (1, -1)):
                there = _moved(state, half == part, trait, way * moved / 2)
                starts.append(WorldRun.new(settings, key, there))
                halves.append(half)
        ended, _ = advance(settings, starts, steps, cores=cores)
        made += [_learned(*each) for each in zip(starts, ended, halves, strict=True)]
        if progress is not None:
            progress(min(first + _BATCH, len(todo)) * 8 * steps, len(todo) * 8 * steps)
    learned = np.array(made).reshape(len(todo), 4, 2, 4)
    entries = worlds[0].minds()["values"].shape[1]
    found = [
        in_units((up - down).T / moved, half, entries)
        for (up, down), half in zip(np.moveaxis(learned, 2, 1), cuts, strict=True)
    ]
    return np.array(found).reshape(len(worlds), replicates, 4, 4)


def in_units(jacobian: np.ndarray, half: np.ndarray, entries: int) -> np.ndarray:
    """The Jacobian of the four means, told along unit vectors of the tables of all individuals together.

    A trait is moved along a direction d of all tables, and read along d / |d|^2, so that to move it by h is to read h more of
    it. With K the Jacobian of all entries of all tables, the means have d_a K d_b / |d_a|^2; here is d_a K d_b over
    |d_a| |d_b|, which is symmetric where K is.

    Args:
        jacobian: `[4, 4]`: rows means that were read, columns means that were moved, as `PARAMETERS` has them.
        half: 0 or 1 for each individual.
        entries: of a table.
    """
    lengths = np.array([np.linalg.norm(_direction(half == part, trait, entries)) for part, trait in _MOVES])
    return jacobian * lengths[:, None] / lengths


def judged(
    jacobians: np.ndarray, *, steps: int, moved: float, seed: int = 0, resamples: int = 9999
) -> LearningJacobian:
    """How much of Jacobians turns, against their transposition.

    If the field of learning had a potential, the mean Jacobian would be its own transpose, and noise as likely the one as
    the other. Null: each replicate transposed or not, in all ways up to 12 replicates, at random beyond; the
    statistic is the norm of the antisymmetric part.

    Args:
        jacobians: `[replicates, 4, 4]`, along unit vectors.
        steps, moved: how they were measured.
        seed: of the null.
        resamples: of it.

    Raises:
        EcologyError: another shape, or a single replicate.
    """
    j = np.asarray(jacobians, float)
    if j.ndim != 3 or j.shape[1:] != (4, 4) or len(j) < 2 or not np.isfinite(j).all():
        raise EcologyError(
            "jacobians", given=f"shape {j.shape}", expected="[2 or more, 4, 4], finite", do="Measure more."
        )
    mean = j.mean(0)
    signs, complete = sign_rows(len(j), np.random.default_rng(seed), resamples)
    turning, straight = (j - np.swapaxes(j, 1, 2)) / 2, (j + np.swapaxes(j, 1, 2)) / 2
    drawn = np.einsum("sr,rij->sij", signs, turning) / len(j)
    apart = np.zeros((4, 4), bool)
    apart[:2, 2:] = apart[2:, :2] = True
    whole = np.linalg.norm(straight.mean(0))
    sizes = np.sqrt((drawn**2).sum((1, 2)))
    own = float(np.linalg.norm(turning.mean(0)))
    between = float(np.linalg.norm(turning.mean(0)[apart]))
    slack = 1e-9 * float(np.abs(j).mean())  # what rounding leaves of a Jacobian that is its own transpose
    between_sizes = np.sqrt((drawn[:, apart] ** 2).sum(1))

    return LearningJacobian(
        PARAMETERS,
        tuple(tuple(float(one) for one in row) for row in mean),
        antisymmetric_share(mean),
        float((sizes / (sizes + whole)).mean()),
        permutation_p(sizes, own, complete, slack),
        float(between / (own + whole)) if own + whole else 0.0,
        permutation_p(between_sizes, between, complete, slack),
        steps,
        moved,
        len(j),
    )


def traits(values: np.ndarray) -> np.ndarray:
    """Emission and response of tables Q `[individuals, states * actions]`, as `learning_jacobians` has them: `[..., 2]`."""
    q = values.reshape(len(values), -1, 2, 4)  # states of the other senses, signal, actions
    emission = q[..., 2:].mean((1, 2, 3)) - q[..., :2].mean((1, 2, 3))
    tumble, run = q[:, :, 1, 1::2].mean((1, 2)), q[:, :, 1, 0::2].mean((1, 2))
    return np.stack([emission, tumble - run], -1)


def _moved(state: Any, who: np.ndarray, trait: int, by: float) -> Any:
    values = np.array(state.mind["values"])
    values[: len(who)] += (by * _direction(who, trait, values.shape[1])).astype(values.dtype)
    return state._replace(mind={**state.mind, "values": values})


def _direction(who: np.ndarray, trait: int, entries: int) -> np.ndarray:
    """What to add to the tables of some to raise a trait of theirs by 1, as `traits` reads it: `[individuals, entries]`."""
    one = np.zeros((entries // 8, 2, 4))
    if trait == 0:
        one[..., 2:], one[..., :2] = 0.5, -0.5
    else:
        one[:, 1, 1::2], one[:, 1, 0::2] = 0.5, -0.5
    return np.outer(who, one.ravel())


def _learned(before: WorldRun, after: WorldRun, half: np.ndarray) -> np.ndarray:
    """Change of emission and response of each half, over who lived through: founders are the first numbers."""
    uids, n = after.uids(), len(half)
    stayed = np.flatnonzero(uids < n)
    was = traits(np.asarray(before.state.mind["values"])[:n])
    now = np.full((n, 2), np.nan)
    now[uids[stayed]] = traits(after.minds()["values"][stayed])
    return np.concatenate([np.nanmean((now - was)[half == part], axis=0) for part in (0, 1)])


def _packed(settings: World, world: WorldRun) -> Any:
    """The world's state at step 0 with its inhabitants in the first places, in their order."""
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
            "worlds", given=len(worlds), expected="some, with four alive or more", do="Take others."
        )
