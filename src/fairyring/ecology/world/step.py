"""One step of a world as one function of its state. Updates are synchronous, so nobody acts first.

    sources, spreading, decay -> sensing -> (learning) choosing -> moving or tumbling -> emitting -> eating, by share
    -> energy -> meeting, conjugation -> deaths -> births -> immigrants -> rewards

A step processes at most `at_once` births, immigrants and conjugations, since they are rare; if more are ready, chance decides
which are processed. What several bacteria add to one cell are whole numbers or equal amounts, so the order does not matter.
XLA fuses the computation of a value into each of its readers; barriers stand where that would compute it several times.

Random numbers have an address: seed, world, step, place. So a world gives the same bits alone, among others, resumed, or in
fewer places.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fairyring.ecology.world import chance as drawn
from fairyring.ecology.world import grid, motion, selection
from fairyring.ecology.world.events import Happened, values
from fairyring.ecology.world.senses import Sensed
from fairyring.ecology.world.senses import state as sensed_state
from fairyring.ecology.world.settings import World
from fairyring.ecology.world.state import Log, State

Array = Any  # jax.Array, which type checkers take for a variable
Key = tuple[Array, Array]
FEW, SOME = 64, 8
# The purpose of a random number within a step is part of its address. Add purposes, never renumber them.
JUMP, LANDING, SHUFFLE, CHOICE, LEARNING, TIE, ENTRY, HEADING, PLACE, MUTATION, GENOME = range(1, 12)
_hold = jax.lax.optimization_barrier


def at_once(capacity: int) -> int:
    """How many births and immigrants a step can process, and how many conjugations: a 32nd of the capacity, at least `FEW`.

    It depends on the capacity of the world, so that a program for fewer places makes the same steps.
    """
    return max(FEW, capacity // 32)


def make_step(settings: World) -> Callable[[State, Array, Mapping[str, Array], Array], tuple[State, Log]]:
    """The step of worlds of one structure.

    Args:
        settings: of the worlds; only shapes and functions are taken from it, numbers are arguments of the step.

    Returns:
        `step(state, key data uint32 [2], knobs, capacity) -> (state, log)`, traceable by JAX. `capacity` is that of the
        world, which may exceed the places of the state.
    """
    cells, senses, policy = settings.width, settings.senses, settings.policy
    two_chemicals = "signal" in settings.chemicals()
    events, few = settings.events, at_once(settings.capacity)

    def step(state: State, key: Array, knobs: Mapping[str, Array], capacity: Array) -> tuple[State, Log]:
        places = state.alive.shape[0]
        bits = (settings.capacity - 1).bit_length()
        key = drawn.folded((key[0], key[1]), state.step)
        alive = state.alive

        # Sources, spreading, decay.
        sources = _jumping(key, state.places, knobs["source_lifetime"], cells)
        fields = {
            name: grid.spread(field, knobs[f"{name}_decay"], knobs[f"{name}_diffusion"])
            for name, field in state.fields.items()
        }
        fields["food"] = fields["food"] + grid.influx(
            sources, knobs["food_influx"], knobs["source_spread"], cells
        )
        fields = _hold(fields)

        # Sensing.
        food = grid.felt(fields["food"], state.x, state.y)
        signal = grid.felt(fields["signal"], state.x, state.y) if two_chemicals else food * 0
        food, signal = _hold((food, signal))
        change = (food - state.memory) / (food + state.memory + 1e-3)
        memory = state.memory + (food - state.memory) / knobs["memory"]
        felt = Sensed(food=food, change=change, signal=signal, energy=state.energy, knobs=knobs)
        sensed = sensed_state(senses, felt)
        sensed, food, change, signal, memory = _hold((sensed, food, change, signal, memory))
        sensed = jax.lax.cond(knobs["blind"] > 0, lambda: _somebody_elses(key, sensed, alive), lambda: sensed)

        # Learning and choosing.
        number = jnp.arange(places, dtype=jnp.int32)
        first, second = _hold(drawn.words(key, CHOICE, places))
        coin, priority = drawn.unit(first, 20), (first & 0xFFF).astype(jnp.int32)
        chance, meeting = drawn.unit(second, 16), (second & 0xFFFF).astype(jnp.float32) * 2.0**-16
        if policy.reward is None:
            spare, luck = priority, chance
        else:
            third, fourth = _hold(drawn.words(key, LEARNING, places))
            coin, spare, luck = (
                drawn.unit(third, 20),
                (third & 0xFFF).astype(jnp.int32),
                drawn.unit(fourth, 24),
            )
        action, mind = policy.act(state.genomes, state.mind, sensed, settings.actions, coin, spare, knobs)
        tumbled, emitted = (action & 1) > 0, (action & 2) > 0
        tumbled, emitted, chance, meeting, priority, mind = _hold(
            (tumbled, emitted, chance, meeting, priority, mind)
        )

        # Moving or tumbling.
        turn = jnp.where(tumbled, chance, motion.swerve(chance, knobs["turning"]))
        ux, uy = motion.turned(state.ux, state.uy, turn)
        pace = knobs["speed"] * jnp.where(tumbled & settings.dwell, 0.0, 1.0)
        x, y = grid.wrapped(state.x + pace * ux, cells), grid.wrapped(state.y + pace * uy, cells)
        here = grid.cell(x, y, cells)
        x, y, ux, uy, here = _hold((x, y, ux, uy, here))

        # Emitting.
        emitted = emitted & alive
        if two_chemicals:
            # Equal amounts, so their sum does not depend on the order.
            signals = fields["signal"].reshape(-1)
            signals = signals.at[jnp.where(emitted, here, cells * cells)].add(knobs["emission"], mode="drop")
            fields["signal"] = signals.reshape(cells, cells)

        # Eating: all in a cell ask for the same amount and share what there is. Each computes the same remainder.
        count = (
            jnp.zeros(cells * cells, jnp.int32)
            .at[here]
            .add(alive.astype(jnp.int32), mode="promise_in_bounds")
        )
        mouths = count.at[here].get(mode="promise_in_bounds")
        there = fields["food"].reshape(-1)
        available = there.at[here].get(mode="promise_in_bounds")
        mouths, available = _hold((mouths, available))
        sharing = jnp.maximum(mouths, 1).astype(jnp.float32)
        uptake = jnp.minimum(
            jnp.minimum(knobs["uptake_rate"] * available, knobs["uptake_limit"]), available / sharing
        )
        left = jnp.maximum(available - uptake * sharing, 0.0)
        uptake, left = _hold((uptake, left))
        there = there.at[jnp.where(alive, here, cells * cells)].set(left, mode="drop")
        fields["food"] = there.reshape(cells, cells)

        # Energy. There is no debt: a bacterium that cannot pay for the step ends it at zero, and dies.
        bill = knobs["basal_cost"] + (knobs["emission_cost"] * emitted if two_chemicals else 0.0)
        energy = state.energy + uptake
        paid = jnp.where(alive, jnp.minimum(bill, energy), 0.0)
        energy = energy - paid
        uptake, energy, paid = _hold((uptake, energy, paid))

        # Meeting: one bacterium in each cell is drawn, and the others in the cell meet it.
        tie, lucky = drawn.words(key, TIE, 1)
        mask, lucky = (tie & ((1 << bits) - 1)).astype(jnp.int32), drawn.unit(lucky[0], 24)
        lot = _hold(jnp.where(alive, (priority << bits) | (number ^ mask), -1))
        chosen = jnp.full(cells * cells, -1, jnp.int32).at[here].max(lot, mode="promise_in_bounds")
        partner = (chosen.at[here].get(mode="promise_in_bounds") & ((1 << bits) - 1)) ^ mask
        meets = alive & (partner != number)
        takes = selection.packed(meets & (meeting < knobs["conjugation"]))
        conjugations = selection.count(takes)
        takers = selection.drawn(takes, few, jnp.int32(few), lucky)
        genomes = _conjugated(key, state.genomes, takers, partner)

        # Deaths.
        dies = alive & (energy <= 0)
        stayed = alive = alive & ~dies
        died = selection.packed(dies)

        # Births, then immigrants, in the lowest free places.
        ready = selection.packed(alive & (energy >= knobs["division_energy"]))
        free = selection.packed(~alive)
        able = selection.count(ready)
        living = places - selection.count(free)
        vacant = capacity - living
        room = jnp.minimum(vacant, few)
        births = jnp.minimum(able, room)
        immigrants = jnp.clip(knobs["minimum"] - living - births, 0, room - births)
        fills = births + immigrants
        slots, parents = selection.first(free, few), selection.drawn(ready, few, room, lucky)
        rank = jnp.arange(few)
        child, filled = rank < births, rank < fills
        short = fills > places - living
        slots = jnp.where(filled, slots, places + rank)  # out of bounds, so nothing is written
        source = jnp.minimum(parents, places - 1)
        divided = jnp.zeros(places, bool).at[parents].set(True, mode="drop")
        energy = jnp.where(divided, energy * 0.5, energy)
        heading, _ = drawn.words(key, HEADING, few)
        east, north = drawn.words(key, PLACE, few)
        inherited = _mutated(key, genomes[source], births, knobs)
        redrawn = rank < births * knobs["scrambled"]
        fresh = jax.lax.cond(
            immigrants + births * knobs["scrambled"] > 0,
            lambda: drawn.normal(drawn.words(key, GENOME, inherited.size)[0]).reshape(inherited.shape),
            lambda: jnp.zeros_like(inherited),
        )
        genome = jnp.where((child & ~redrawn)[:, None], inherited, fresh)
        parent_mind = jax.tree.map(
            lambda rows, none: jnp.where(_column(child, rows), rows[source], none),
            mind,
            policy.empty(few, settings.states, settings.actions),
        )
        born_mind = policy.born(genome, parent_mind, settings.actions, knobs)
        hx, hy = motion.turned(jnp.ones(few), jnp.zeros(few), drawn.unit(heading, 24))

        def put(rows: Array, of_child: Array, of_immigrant: Array) -> Array:
            new = jnp.where(child, of_child, of_immigrant)
            return rows.at[slots].set(new, mode="drop", unique_indices=True, indices_are_sorted=True)

        x, y = (
            put(x, x[source], drawn.unit(east, 24) * cells),
            put(y, y[source], drawn.unit(north, 24) * cells),
        )
        ux, uy = put(ux, hx, hx), put(uy, hy, hy)
        memory = put(memory, memory[source], jnp.zeros(few))
        energy = put(energy, energy[source], jnp.broadcast_to(knobs["start_energy"], few))
        genomes = genomes.at[slots].set(genome, mode="drop", unique_indices=True, indices_are_sorted=True)
        if policy.reward is not None:
            happened = Happened(
                uptake=uptake / jnp.maximum(knobs["uptake_limit"], 1e-30),  # with a limit of 0: 0, not 0 / 0
                energy=energy,
                food=food,
                change=change,
                signal=signal,
                tumbled=tumbled,
                emitted=emitted,
                neighbours=mouths - 1,
                deaths=_deaths(here, dies, cells),
                divided=divided,
                alive=~dies,
                chance=luck,
                knobs=knobs,
            )
            mind = policy.reward(genomes, mind, values(events, happened), knobs)
        mind = jax.tree.map(
            lambda rows, new: rows.at[slots].set(
                new, mode="drop", unique_indices=True, indices_are_sorted=True
            ),
            mind,
            born_mind,
        )
        arrived = jnp.zeros(places, bool).at[slots].set(True, mode="drop")
        alive = alive | arrived
        log = Log(
            died=died,
            divided=selection.packed(divided),
            born=selection.packed(arrived),
            numbers=jnp.stack(
                [
                    living + fills,
                    births,
                    selection.count(died),
                    immigrants,
                    jnp.maximum(able - vacant, 0),
                    jnp.minimum(able, vacant) - births,
                    meets.sum(dtype=jnp.int32),
                    jnp.minimum(conjugations, few),
                    jnp.maximum(conjugations - few, 0),
                    (tumbled & state.alive).sum(dtype=jnp.int32),
                    emitted.sum(dtype=jnp.int32),
                    short.astype(jnp.int32),
                ]
            ),
            amounts=jnp.stack(
                [
                    fields["food"].sum(),
                    fields["signal"].sum() if two_chemicals else jnp.float32(0),
                    _exact_sum(jnp.where(state.alive, uptake, 0.0), settings.capacity),
                    _exact_sum(paid, settings.capacity),
                    _exact_sum(jnp.where(alive, energy, 0.0), settings.capacity),
                    knobs["emission"] * emitted.sum() if two_chemicals else jnp.float32(0),
                ]
            ),
        )
        after = State(
            step=state.step + 1,
            fields=fields,
            places=sources,
            alive=alive,
            x=x,
            y=y,
            ux=ux,
            uy=uy,
            energy=energy,
            memory=memory,
            tumbled=tumbled & stayed,  # a newborn did nothing, whoever had its place before
            emitted=emitted & stayed,
            genomes=genomes,
            mind=mind,
        )
        return after, log

    return step


def _column(flags: Array, rows: Array) -> Array:
    return flags.reshape(-1, *[1] * (rows.ndim - 1))


def _jumping(key: Key, places: Array, lifetime: Array, cells: int) -> Array:
    n = places.shape[0]
    lot, _ = drawn.words(key, JUMP, n)
    where = jnp.stack([drawn.unit(word, 24) for word in drawn.words(key, LANDING, n)], 1)
    return jnp.where(drawn.unit(lot, 24)[:, None] * lifetime < 1, where * cells, places)


def _somebody_elses(key: Key, sensed: Array, alive: Array) -> Array:
    """Observations rotated among the living by a random number of places, uniform over all but 0.

    Each observation still reaches one bacterium, and nobody gets its own.
    """
    n = alive.sum()
    rank = jnp.cumsum(alive) - 1
    turn = 1 + (drawn.unit(drawn.words(key, SHUFFLE, 1)[0][0], 24) * (n - 1)).astype(jnp.int32)
    listed = jnp.zeros_like(sensed).at[jnp.where(alive, rank, sensed.shape[0])].set(sensed, mode="drop")
    return listed[(rank + turn) % jnp.maximum(n, 1)]


def _conjugated(key: Key, genomes: Array, takers: Array, partner: Array) -> Array:
    """Genomes after each taker has copied one entry of its partner's genome, as that was before the step."""
    places, genes = genomes.shape
    taker = jnp.minimum(takers, places - 1)
    entry = (drawn.unit(drawn.words(key, ENTRY, len(takers))[0], 24) * genes).astype(jnp.int32)
    given = genomes[partner[taker], entry]
    return genomes.at[takers, entry].set(given, mode="drop", unique_indices=True)


def _mutated(key: Key, genomes: Array, births: Array, knobs: Mapping[str, Array]) -> Array:
    """Genomes with mutations in the first `births`. Sizes grow by 8, since there are seldom more than a few births."""

    def those(some: int) -> Array:
        coin, size = drawn.words(key, MUTATION, some * genomes.shape[1])
        hit = drawn.unit(coin, 24) < knobs["mutation_rate"]
        moved = jnp.where(hit, knobs["mutation_scale"] * drawn.normal(size), 0.0).reshape(some, -1)
        return jnp.concatenate([genomes[:some] + moved, genomes[some:]])

    def enough(some: int) -> Array:
        if some >= len(genomes):
            return those(len(genomes))
        return jax.lax.cond(births > some, lambda: enough(8 * some), lambda: those(some))

    return enough(SOME)


def _deaths(here: Array, dies: Array, cells: int) -> Array:
    count = jnp.zeros(cells * cells, jnp.int32).at[here].add(dies.astype(jnp.int32), mode="promise_in_bounds")
    return count.at[here].get(mode="promise_in_bounds")


def _exact_sum(values: Array, capacity: int) -> Array:
    """A sum in fixed point, in units of 2**-22, that does not depend on the order or on the number of empty places.

    Upper and lower bits are summed separately. The lower part has as many bits as can be summed `capacity` times in 32
    bits; the sum of the upper part fits into 32 bits while the total is below 2**27. Coarser units would round the same cost
    of every bacterium in the same direction.
    """
    size = (capacity - 1).bit_length()
    bits, rest, sums = 30 - size, values, []
    for k in (1,) if size <= 12 else (2, 1):  # another sum costs a tenth of a small world's step
        unit = 2.0 ** (k * bits - 22)
        whole = jnp.floor(rest / unit)
        rest = rest - whole * unit
        sums.append(whole.astype(jnp.int32).sum())
    sums.append(jnp.round(rest * 2.0**22).astype(jnp.int32).sum())
    for k in range(len(sums) - 1, 0, -1):  # carry, so that adding two parts rounds once
        sums[k - 1], sums[k] = sums[k - 1] + (sums[k] >> bits), sums[k] & ((1 << bits) - 1)
    total = sums[0].astype(jnp.float32)
    for part in sums[1:]:
        total = total * 2.0**bits + part.astype(jnp.float32)
    return total * 2.0**-22
