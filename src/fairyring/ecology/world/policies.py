"""How a bacterium decides: what it inherits, what it learns during its life, and how it acts.

A policy is a record of plain functions; a custom policy is another such record. Genomes are float32 `[capacity, genes]`. A
mind is what a bacterium carries through its life besides its genome, arrays `[capacity, ...]`; it is inherited only as far
as `born` passes it on. An action is a whole number: bit 0 tumbles, bit 1 emits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fairyring.core.errors import EcologyError

Array = Any  # jax.Array, which type checkers take for a variable
Mind = Any  # a pytree of arrays
Knobs = Mapping[str, Array]

Heredity = Literal["rewards", "retention", "evolved values", "lamarck"]


@dataclass(frozen=True)
class Policy:
    """A way of deciding.

    Args:
        name: of the policy, in reports and run files.
        genes: `(states, actions, events) -> int`, the number of entries of a genome.
        empty: `(capacity, states, actions) -> mind`, for empty places.
        born: `(genomes [K, genes], parents' minds, actions, knobs) -> minds [K, ...]`; for immigrants the parents'
            minds are `empty`.
        act: `(genomes, mind, states [capacity], actions, coin [capacity], spare [capacity], knobs) ->
            (action, mind)`; `coin` is uniform in [0, 1), `spare` holds 12 more random bits.
        reward: `(genomes, mind, events, knobs) -> mind`, after the step, where `events` is a list of `[capacity]`; None for
            a policy that does not learn.
    """

    name: str
    genes: Callable[[int, int, int], int]
    empty: Callable[[int, int, int], Mind]
    born: Callable[[Array, Mind, int, Knobs], Mind]
    act: Callable[[Array, Mind, Array, int, Array, Array, Knobs], tuple[Array, Mind]]
    reward: Callable[[Array, Mind, list[Array], Knobs], Mind] | None


@cache
def tables() -> Policy:
    """An inherited table of preferences and a softmax. It does not learn.

    A genome is the table `[states, actions]`, row by row. The probability of an action is proportional to
    exp(beta * preference).
    """

    def act(genomes, mind, states, actions, coin, spare, knobs):
        own = jnp.arange(states.shape[0]) * genomes.shape[1] + states * actions
        flat = genomes.reshape(-1)
        chosen = [flat.at[own + a].get(mode="promise_in_bounds") * knobs["beta"] for a in range(actions)]
        if actions == 2:
            return (coin < jax.nn.sigmoid(chosen[1] - chosen[0])).astype(jnp.int32), mind
        preference = jnp.stack(chosen)
        odds = jnp.exp(preference - preference.max(0))
        below = jnp.cumsum(odds, 0)
        return (coin * below[-1] >= below[:-1]).astype(jnp.int32).sum(0), mind

    return Policy(
        name="tables",
        genes=lambda states, actions, events: states * actions,
        empty=lambda capacity, states, actions: (),
        born=lambda genomes, parents, actions, knobs: (),
        act=act,
        reward=None,
    )


def q_learning(heredity: Heredity = "retention") -> Policy:
    """Q-learning (Watkins 1989) from inherited rewards: a genome is a reward for each event.

    In each step, `Q[s, a] += alpha (r + gamma max Q[s'] - Q[s, a])`, where `r` is the sum of the rewards of the events
    since. The action is the best one in `s'`, with ties broken at random, or with probability epsilon a random one.

    Args:
        heredity: what a child gets besides its parent's rewards. "rewards": nothing, so its Q is 0. "retention": the
            share `retention` of its parent's Q. "evolved values": an initial Q that is inherited and mutated along with
            the rewards. "lamarck": all of its parent's Q.

    Raises:
        EcologyError: `heredity` is none of these.
    """
    if heredity not in ("rewards", "retention", "evolved values", "lamarck"):
        raise EcologyError(
            "heredity",
            given=repr(heredity),
            expected="'rewards', 'retention', 'evolved values' or 'lamarck'",
            do="Choose one of them.",
        )
    return _learner(heredity)


@cache  # one object each, so that worlds of the same heredity are equal and share a program
def _learner(heredity: Heredity) -> Policy:
    evolved = heredity == "evolved values"

    def empty(capacity, states, actions):
        return {
            "values": jnp.zeros((capacity, states * actions), jnp.float32),
            # s * actions + a of the step before; -1: there was none
            "place": jnp.full(capacity, -1, jnp.int32),
            "reward": jnp.zeros(capacity, jnp.float32),
        }

    def born(genomes, parents, actions, knobs):
        first = {"rewards": 0.0, "retention": knobs["retention"], "lamarck": 1.0, "evolved values": 0.0}
        values = parents["values"] * first[heredity]
        if evolved:
            values = genomes[:, genomes.shape[1] - values.shape[1] :]
        return {"values": values, "place": parents["place"] * 0 - 1, "reward": parents["reward"] * 0}

    def act(genomes, mind, states, actions, coin, spare, knobs):
        values, place = mind["values"], mind["place"]
        width = values.shape[1]
        own = jnp.arange(states.shape[0]) * width
        flat = values.reshape(-1)
        here = [flat.at[own + states * actions + a].get(mode="promise_in_bounds") for a in range(actions)]
        best = here[0]
        for other in here[1:]:
            best = jnp.maximum(best, other)
        last = own + jnp.maximum(place, 0)
        error = mind["reward"] + knobs["gamma"] * best - flat.at[last].get(mode="promise_in_bounds")
        moved = jnp.where(place >= 0, knobs["alpha"] * error, 0.0)
        flat, moved, last = jax.lax.optimization_barrier((flat, moved, last))
        flat = flat.at[last].add(moved, mode="promise_in_bounds", unique_indices=True)
        # If the state is unchanged, the update just made counts for this choice.
        again = place - states * actions
        here = [jnp.where(again == a, value + moved, value) for a, value in enumerate(here)]
        best = reduce(jnp.maximum, here)
        equal = [value == best for value in here]
        # Of `n` tied actions, take number floor(n * spare / 4096). This is exact for two and four; of three, each
        # gets 1365 or 1366 of the 4096. The same bits serve the random action, since only one of the two is used.
        wanted, chosen, seen = (sum(equal) * spare) >> 12, jnp.zeros_like(states), equal[0].astype(jnp.int32)
        for a, is_best in enumerate(equal[1:], 1):
            chosen = jnp.where(is_best & (seen == wanted), a, chosen)
            seen = seen + is_best
        any_action = (spare >> 2) & (actions - 1)
        action = jnp.where(coin < knobs["epsilon"], any_action, chosen)
        return action, {**mind, "values": flat.reshape(values.shape), "place": states * actions + action}

    def reward(genomes, mind, events, knobs):
        total = genomes[:, 0] * events[0]
        for i, event in enumerate(events[1:], 1):
            total = total + genomes[:, i] * event
        return {**mind, "reward": total}

    return Policy(
        name=f"Q-learning, heredity of {heredity}",
        genes=lambda states, actions, events: events + evolved * states * actions,
        empty=empty,
        born=born,
        act=act,
        reward=reward,
    )
