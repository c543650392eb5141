"""The compiled engine: many rounds, or a part of one, as one program over all devices.

Two programs are made of the plan's two halves. `rounds` runs whole rounds one after the other on data that stays on
the devices; `accumulate` and `finish` run one round in pieces, for data that is fetched as it is needed and for
clients with a memory. Both loop over clients, one device a core; on an accelerator a block of clients is vectorised.

All numbers that change from round to round (how many clients, which, how many rounds) are arguments of a program,
never part of its shape, so a plan is compiled once.
"""

import heapq
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fairyring.aggregation.contract import Message
from fairyring.core.keys import Purpose, of_round, shared
from fairyring.learning.device import Align, Broadcast, device_half
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState, server_half
from fairyring.simulation.target import Device

Tree = Any
Array = Any  # of NumPy before a program is called, of JAX within
AXIS = "device"


class Members(NamedTuple):
    """The clients a device works through: int32, the last axis is the device's clients.

    Client `ids[i]` owns rows `starts[i] : starts[i] + sizes[i]` of the columns at hand; only the first `used`
    places count.
    """

    ids: Array
    starts: Array
    sizes: Array
    used: Array


class Engine:
    """A plan compiled for a population's shapes and some devices.

    Args:
        plan: what to compile.
        workload: the shapes of the clients.
        clients: how many clients the population has.
        devices: to run on; clients are shared among them.
        rewrite: how a loss is rewritten for the devices before its gradient is taken.
        align: how dense layers are stored between training steps.
        together: clients vectorised together: 1 on a CPU, many on an accelerator.
        options: of the compiler.
    """

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        clients: int,
        devices: list[Device],
        *,
        rewrite: Callable[[Callable], Callable],
        align: Align | None = None,
        together: int = 1,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.plan, self.together = plan, together
        self.update = device_half(
            plan.task, plan.local, plan.algorithm, plan.bound, workload, rewrite=rewrite, align=align
        )
        self.advance = server_half(plan.server, plan.algorithm, plan.bound, plan.update_layout, clients)
        # Places for clients on a device: all of them, should one client be as large as the others together.
        self.room = -(-plan.rule.most // together) * together
        spread, alike = P(AXIS), P()
        many, one = (Members(*(spec,) * 4) for spec in (P(None, AXIS), spread))
        wrap = partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        compiled = partial(jax.jit, compiler_options=dict(options or {}))
        self.rounds = compiled(
            wrap(
                self._rounds,
                in_specs=(alike, alike, many, alike, alike, alike),
                out_specs=(alike, alike, alike, P(None, AXIS)),
            ),
            donate_argnums=0,
        )
        self.accumulate = compiled(
            wrap(
                self._accumulate,
                in_specs=(spread, alike, spread, one, spread, alike),
                out_specs=(spread, spread, spread),
            ),
            donate_argnums=(0, 4),
        )
        self.finish = compiled(
            wrap(self._finish, in_specs=(alike, spread, alike, alike), out_specs=(alike, alike)),
        )

    @property
    def devices(self) -> int:
        """How many devices share the work."""
        return self.mesh.size

    def alike(self, tree: Tree) -> Tree:
        """`tree` put on every device whole."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def spread(self, tree: Tree) -> Tree:
        """`tree` put on the devices in equal parts of its first axis."""
        return jax.device_put(tree, NamedSharding(self.mesh, P(AXIS)))

    def nothing(self) -> Tree:
        """The sums before a round's first client, one a device."""
        zero = self._sums
        zeros = jax.tree.map(lambda leaf: np.zeros((self.devices, *leaf.shape), leaf.dtype), zero)
        return self.spread(zeros)

    @property
    def _sums(self) -> tuple[Message, jax.ShapeDtypeStruct]:
        """The sum of messages and the number of them, as shapes."""
        return self.plan.message_shape, jax.ShapeDtypeStruct((), jnp.int32)

    def _clients(
        self,
        broadcast: Broadcast,
        columns: Mapping,
        members: Members,
        mine: Tree,
        round_key: jax.Array,
        sums: Tree,
    ) -> tuple[Tree, Tree, jax.Array]:
        """Work through a device's clients; returns the sums, the clients' states, and who was finite."""
        width = self.together
        stages_key = shared(round_key, Purpose.SHARED)
        finite = jnp.ones(members.ids.shape, bool)

        def one(i: jax.Array, mine: Tree):
            old = jax.tree.map(lambda states: states[i], mine)
            key = jax.random.fold_in(round_key, members.ids[i])
            outcome = self.update(
                broadcast, columns, members.starts[i], members.sizes[i], old, key, stages_key
            )
            new = jax.tree.map(lambda n, o: jnp.where(outcome.finite, n, o), outcome.mine, old)
            message = jax.tree.map(lambda m: jnp.where(outcome.finite, m, jnp.zeros_like(m)), outcome.message)
            return message, new, outcome.finite

        def single(i: jax.Array, carry: tuple[Tree, Tree, jax.Array]):
            (total, reported), mine, finite = carry
            message, new, ok = one(i, mine)
            total = jax.tree.map(jnp.add, total, message)
            mine = jax.tree.map(lambda states, state: states.at[i].set(state), mine, new)
            return (total, reported + ok.astype(jnp.int32)), mine, finite.at[i].set(ok)

        def block(b: jax.Array, carry: tuple[Tree, Tree, jax.Array]):
            (total, reported), mine, finite = carry
            places = b * width + jnp.arange(width)
            real = places < members.used
            messages, new, ok = jax.vmap(lambda i: one(i, mine))(places)
            counted = ok & real

            def summed(m: jax.Array) -> jax.Array:
                return jnp.sum(
                    jnp.where(counted.reshape(-1, *(1,) * (m.ndim - 1)), m, 0), axis=0, dtype=m.dtype
                )

            total = jax.tree.map(lambda t, m: t + summed(m), total, messages)
            mine = jax.tree.map(lambda states, state: states.at[places].set(state), mine, new)
            reported = reported + jnp.sum(counted, dtype=jnp.int32)
            return (total, reported), mine, finite.at[places].set(ok | ~real)

        if width == 1:
            return lax.fori_loop(0, members.used, single, (sums, mine, finite))
        return lax.fori_loop(0, -(-members.used // width), block, (sums, mine, finite))

    def _rounds(
        self,
        state: ServerState,
        columns: Mapping,
        members: Members,
        first: jax.Array,
        count: jax.Array,
        root: jax.Array,
    ):
        """`count` whole rounds; the first axis of `members` is the round.

        Returns the state, and for each round `[side...]`, the number that reported, and who was finite.
        """
        members = jax.tree.map(lambda m: m[:, 0], members)
        capacity, room = members.ids.shape
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._sums)
        sides = 2 + len(self.plan.task.metrics)

        def body(i: jax.Array, carry):
            state, side, reported, finite = carry
            round_key = of_round(root, first + i)
            broadcast = Broadcast(state.params, state.shared, first + i)
            here = jax.tree.map(lambda m: m[i], members)
            sums, _, ok = self._clients(broadcast, columns, here, (), round_key, zero)
            total, heard = lax.psum(sums, AXIS)
            state, values = self.advance(state, total, heard, shared(round_key, Purpose.SHARED))
            return state, side.at[i].set(values), reported.at[i].set(heard), finite.at[i].set(ok)

        carry = (
            state,
            jnp.zeros((capacity, sides), jnp.float32),
            jnp.zeros((capacity,), jnp.int32),
            jnp.ones((capacity, room), bool),
        )
        state, side, reported, finite = lax.fori_loop(0, count, body, carry)
        return state, side, reported, finite[:, None]

    def _accumulate(
        self,
        sums: Tree,
        broadcast: Broadcast,
        columns: Mapping,
        members: Members,
        mine: Tree,
        round_key: jax.Array,
    ):
        """Add some clients of a round to the sums; every argument but `broadcast` is a device's own part."""
        sums = jax.tree.map(lambda s: s[0], sums)
        here = Members(members.ids[0], members.starts[0], members.sizes[0], members.used[0])
        columns = {name: column[0] for name, column in columns.items()}
        own = jax.tree.map(lambda s: s[0], mine)
        sums, own, finite = self._clients(broadcast, columns, here, own, round_key, sums)
        return (*(jax.tree.map(lambda s: s[None], part) for part in (sums, own)), finite[None])

    def _finish(self, state: ServerState, sums: Tree, number: jax.Array, root: jax.Array):
        """The server's half of a round whose clients were accumulated."""
        total, heard = lax.psum(jax.tree.map(lambda s: s[0], sums), AXIS)
        state, side = self.advance(state, total, heard, shared(of_round(root, number), Purpose.SHARED))
        return state, (side, heard)


def share(ids: np.ndarray, sizes: np.ndarray, devices: int) -> list[np.ndarray]:
    """Places of the clients each device gets, about equal in examples: the largest first, to whoever has least.

    Args:
        ids: clients, `[n]`.
        sizes: their examples, `[n]`.
        devices: how many devices.
    """
    order = np.lexsort((ids, -sizes))
    loads = [(0, device) for device in range(devices)]
    dealt: list[list[int]] = [[] for _ in range(devices)]
    for place, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        load, device = loads[0]
        dealt[device].append(place)
        heapq.heapreplace(loads, (load + size, device))
    return [np.array(places, np.int64) for places in dealt]
