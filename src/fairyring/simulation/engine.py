"""The compiled engine: a client's part of a round as one program.

`accumulate` works through clients on one processor, from the sums before them to the sums after them; each processor runs
it by itself on its share of a cohort, whole or piece by piece. A processor is a core or an accelerator; on an accelerator a
block of clients is vectorised.

All numbers that change from round to round (how many clients, which, which round) are arguments of a program, never
part of its shape, so a plan is compiled once.
"""

import heapq
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairyring.aggregation import Message
from fairyring.core.keys import Purpose, of_round, shared
from fairyring.core.program import Program
from fairyring.learning.device import Broadcast, device_half
from fairyring.learning.example_steps import Drawn, Shapes
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.lowering import Hardware
from fairyring.privacy.canaries import canary
from fairyring.rounds.server_program import Sums

Tree = Any
Array = Any  # of NumPy before a program is called, of JAX within


class Members(NamedTuple):
    """The clients a processor works through: int32 `[room]`, and how many.

    Client `ids[i]` owns rows `starts[i] : starts[i] + sizes[i]` of the columns at hand; only the first `used`
    places count.
    """

    ids: Array
    starts: Array
    sizes: Array
    used: Array


class Judged(NamedTuple):
    """What is noticed of each client, at its place: `[room]` each.

    Attributes:
        finite: whether its update was; True where there is nobody.
        relative_norms: float32, of its update before it was clipped; empty where that is not measured: see `Plan.measures_norms`.
    """

    finite: Array
    relative_norms: Array | tuple[()]


class Engine:
    """A plan compiled for a population's shapes and some processors.

    Args:
        plan: what to compile.
        workload: the shapes of the clients.
        clients: how many clients the population has.
        hardware: the processors, and how programs are shaped for them.

    Attributes:
        nothing: `(place) -> sums` before a round's first client, on processor `place`.
        accumulate: `(place, sums, broadcast, columns, members, client_states, root, drawn) -> (sums, client_states, judged)` on processor `place`.
        plant: `(0, sums, ids, used, round, root) -> sums`: canaries' messages added, on the first processor.
        room: places for clients on a processor: all of them, should one be as large as the others together.
        drawn: shapes of what clients draw for noisy local steps; None where there are none.
        options: compiler options for programs of training steps.

    `no_sums` and `accumulated` are what `nothing` and `accumulate` are compiled from, for programs that contain them.
    """

    def __init__(self, plan: Plan, workload: Workload, clients: int, hardware: Hardware) -> None:
        self.plan, self.processors, self.clients_per_batch = (
            plan,
            hardware.processors,
            hardware.clients_per_batch,
        )
        self.clients = clients
        self.update = device_half(
            plan.task,
            plan.local,
            plan.algorithm,
            plan.bound,
            workload,
            rewrite=hardware.rewrite,
            align=hardware.align,
            stages=plan.example_stages,
            measures_norms=plan.measures_norms,
        )
        stages = plan.example_stages
        self.drawn = Shapes.of(plan.local, stages, workload.longest) if stages is not None else None
        self.room = -(-plan.rule.maximum // self.clients_per_batch) * self.clients_per_batch
        self.options = hardware.options
        self.nothing = Program(self.no_sums, self.processors)
        self.accumulate = Program(self.accumulated, self.processors, options=self.options, donate=(0,))
        first = self.processors[:1]
        self.plant = Program(self._plant, first, options=self.options, donate=(0,))

    def no_sums(self) -> Tree:
        """The sum of no messages, and their number."""
        shapes = Sums(self.plan.message_shape, jax.ShapeDtypeStruct((), jnp.int32))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def accumulated(
        self,
        sums: Tree,
        broadcast: Broadcast,
        columns: Mapping,
        members: Members,
        client_states: Tree,
        root: jax.Array,
        drawn: Drawn | tuple[()],
    ) -> tuple[Tree, Tree, Judged]:
        """Work through a processor's clients; returns the sums, the clients' new states, and what was noticed of each.

        Of noisy local steps `drawn` holds what each client has drawn, by its place; else it is empty.
        """
        width = self.clients_per_batch
        round_key = of_round(root, broadcast.round)
        stages_key = shared(round_key, Purpose.SHARED)
        nobody = jax.tree.map(
            lambda one: jnp.full(one.shape, one.dtype == bool, one.dtype), self.judged(members.ids.shape)
        )
        hides_nonfinite = self.plan.bound.spec.hides_nonfinite

        def one(i: jax.Array):
            old = jax.tree.map(lambda states: states[i], client_states)
            key = jax.random.fold_in(round_key, members.ids[i])
            own = jax.tree.map(lambda all_: all_[i], drawn)
            outcome = self.update(
                broadcast, columns, members.starts[i], members.sizes[i], old, key, stages_key, own
            )
            return outcome.message, outcome.client_state, Judged(outcome.finite, outcome.relative_norm)

        def single(i: jax.Array, carry: tuple[Tree, Tree, Judged]):
            (total, reported), new_states, judged = carry
            message, new, own = one(i)
            total = jax.tree.map(jnp.add, total, message)
            new_states = jax.tree.map(lambda states, state: states.at[i].set(state), new_states, new)
            return (
                Sums(total, reported + (own.finite | hides_nonfinite).astype(jnp.int32)),
                new_states,
                jax.tree.map(lambda all_, value: all_.at[i].set(value), judged, own),
            )

        def block(b: jax.Array, carry: tuple[Tree, Tree, Judged]):
            (total, reported), new_states, judged = carry
            places = b * width + jnp.arange(width)
            real = places < members.used
            messages, new, own = jax.vmap(one)(places)
            counted = (own.finite | hides_nonfinite) & real

            def summed(m: jax.Array) -> jax.Array:
                return jnp.sum(
                    jnp.where(counted.reshape(-1, *(1,) * (m.ndim - 1)), m, 0), axis=0, dtype=m.dtype
                )

            total = jax.tree.map(lambda t, m: t + summed(m), total, messages)
            new_states = jax.tree.map(lambda states, state: states.at[places].set(state), new_states, new)
            reported = reported + jnp.sum(counted, dtype=jnp.int32)
            own = own._replace(finite=own.finite | ~real)
            judged = jax.tree.map(lambda all_, values: all_.at[places].set(values), judged, own)
            return Sums(total, reported), new_states, judged

        # The old states may lie in memory that is not the program's own: it only reads them.
        before = sums, jax.tree.map(jnp.zeros_like, client_states), nobody
        if width == 1:
            return lax.fori_loop(0, members.used, single, before)
        return lax.fori_loop(0, -(-members.used // width), block, before)

    def judged(self, shape: tuple[int, ...]) -> Judged:
        """The shapes of what is noticed of clients at places `shape`."""
        norms = jax.ShapeDtypeStruct(shape, jnp.float32) if self.plan.measures_norms else ()
        return Judged(jax.ShapeDtypeStruct(shape, jnp.bool_), norms)

    def _plant(self, sums: Tree, ids: jax.Array, used: jax.Array, number: jax.Array, root: jax.Array) -> Tree:
        """Add the messages of an audit's canaries: clients `ids[:used]`."""

        def one(i: jax.Array, sums: Tree) -> Tree:
            message = canary_message(self.plan, self.clients, ids[i], number, root)
            return Sums(jax.tree.map(jnp.add, sums.message, message), sums.reported + 1)

        return lax.fori_loop(0, used, one, sums)


def canary_message(plan: Plan, clients: int, client: Array, number: Array, root: jax.Array) -> Message:
    """The message of an audit's canary in a round; canaries are counted from behind the population's clients.

    A canary pushes a thousand times as far as it may, and claims ten million examples: what a clip and a bound on
    the weight leave of that is what one client can do.
    """
    round_key = of_round(root, number)
    stages_key = shared(round_key, Purpose.SHARED)
    directions = shared(root, Purpose.CANARY)
    noise = plan.bound.spec.noise
    length = np.float32(1e3 * (noise.l2 / noise.scale if noise else 1.0))
    rest = [auxiliary.bound if np.isfinite(auxiliary.bound) else 1e7 for auxiliary in plan.auxiliaries]
    vector = canary(directions, client - clients, plan.update_layout.size) * length
    key = jax.random.fold_in(jax.random.fold_in(round_key, client), int(Purpose.ENCODE))
    return plan.bound.encode(Message(vector, jnp.asarray(rest, jnp.float32)), key, stages_key)


def assign_to_processors(ids: np.ndarray, sizes: np.ndarray, processors: int) -> list[np.ndarray]:
    """Places of the clients each processor gets, about equal in examples: the largest first, to whoever has least.

    Args:
        ids: clients, `[n]`.
        sizes: their examples, `[n]`.
        processors: how many processors.
    """
    order = np.lexsort((ids, -sizes))
    loads = [(0, processor) for processor in range(processors)]
    dealt: list[list[int]] = [[] for _ in range(processors)]
    for place, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        load, processor = loads[0]
        dealt[processor].append(place)
        heapq.heapreplace(loads, (load + size, processor))
    return [np.array(places, np.int64) for places in dealt]
