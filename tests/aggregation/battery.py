"""The one battery that every stage and every chain goes through.

A `Case` holds a stage, the spec it is bound to, and what its documentation promises, written down here a
second time: its ideal result, its error, its length on the wire. A check is a function of a case that fails
by `AssertionError`; `test_broken.py` shows that the checks notice stages that lie.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from fairyring.aggregation import Auxiliary, BoundStage, Message, MessageSpec, Stage, wire

DIMENSION = 150
COHORT = 20
CLIENTS = 3
TRIALS = 1200
AUXILIARIES = (Auxiliary("examples", math.inf), Auxiliary("loss", 8.0), Auxiliary("accuracy", 1.0))
REAL = MessageSpec(DIMENSION, COHORT, AUXILIARIES, l2=1.0, linf=0.5)
UNKNOWN = MessageSpec(DIMENSION, COHORT, AUXILIARIES)
WHOLE = MessageSpec(
    DIMENSION,
    COHORT,
    (Auxiliary("weight", 1.0), *AUXILIARIES[1:]),
    l2=500.0,
    linf=127.0,
    bits=8,
    integer=True,
)


@dataclass(frozen=True)
class Case:
    """A stage and what it promises.

    Attributes:
        mse: vector -> bound on the mean squared length of `decoded - ideal`, one client.
        length: bytes of one message on the wire, counted by hand.
        worst: bound on the error of one decoded coordinate, one client, always; None where there is none.
        weight: examples -> weight, for a stage that decides the weight.
        ideal_of: what one client's vector should decode to, where that is not the vector.
        auxiliary_step: resolution of the auxiliary coordinates, relative to their bounds.
        exact: the same bits are promised under jit, vmap and export.
    """

    name: str
    stage: Stage
    spec: MessageSpec
    mse: Callable[[np.ndarray], float]
    length: int
    worst: float | None = None
    weight: Callable[[np.ndarray], np.ndarray] | None = None
    ideal_of: Callable[[np.ndarray], np.ndarray] = lambda x: x
    auxiliary_step: float = 0.0
    exact: bool = False

    def __hash__(self) -> int:
        return id(self)


def messages(case: Case, seed: int = 0, clients: int = CLIENTS) -> Message:
    """Messages of some clients that keep to the case's spec, one a row."""
    rng = np.random.default_rng(seed)
    if case.spec.integer:
        vector = rng.integers(-40, 41, (clients, case.spec.dimension)).astype(np.int32)
        return Message(jnp.asarray(vector), jnp.asarray(_auxiliaries(case, rng, clients)))
    vector = rng.standard_t(4, (clients, case.spec.dimension))
    # 0.4 and no longer, so that what is not clipped lies within every range.
    vector *= 0.4 / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-9)
    return Message(jnp.asarray(vector, jnp.float32), jnp.asarray(_auxiliaries(case, rng, clients)))


def _auxiliaries(case: Case, rng: np.random.Generator, clients: int) -> np.ndarray:
    bounds = [
        auxiliary.bound if math.isfinite(auxiliary.bound) else 40.0 for auxiliary in case.spec.auxiliary
    ]
    return (rng.uniform(0.2, 0.9, (clients, len(bounds))) * bounds).astype(np.float32)


def ideal(case: Case, sent: Message) -> Message:
    """What the server should learn of these messages on average: a sum, or a weighted mean (float64)."""
    vector = np.stack([case.ideal_of(x) for x in np.asarray(sent.vector, np.float64)])
    auxiliary = np.asarray(sent.auxiliary, np.float64)
    if case.weight is None:
        return Message(vector.sum(0), auxiliary.sum(0))
    w = case.weight(auxiliary[:, 0])
    means = (w[:, None] * auxiliary[:, 1:]).sum(0) / w.sum()
    return Message((w[:, None] * vector).sum(0) / w.sum(), np.concatenate([[w.sum()], means]))


@dataclass(frozen=True)
class Compiled:
    bound: BoundStage
    encode: Callable[..., Message]
    decode: Callable[..., Message]
    trials: Callable[..., tuple[Message, Message]]


@functools.cache
def compiled(case: Case) -> Compiled:
    bound = case.stage.bind(case.spec)

    def trial(sent: Message, key: jax.Array) -> tuple[Message, Message]:
        """The decoded sum of all messages, and the first message alone, encoded and decoded."""
        round_key = jax.random.fold_in(key, 999)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(sent.vector)))
        each = jax.vmap(bound.encode, (0, 0, None))(sent, keys, round_key)
        total = Message(each.vector.sum(0, dtype=each.vector.dtype), each.auxiliary.sum(0))
        both = jax.tree.map(lambda one, every: jnp.stack([one, every[0]]), total, each)
        # One after the other, so that decode is compiled once.
        decoded = jax.lax.map(lambda m: bound.decode(m, round_key), both)
        return Message(decoded.vector[0], decoded.auxiliary[0]), Message(
            decoded.vector[1], decoded.auxiliary[1]
        )

    return Compiled(
        bound,
        jax.jit(bound.encode),
        jax.jit(bound.decode),
        jax.jit(lambda sent, keys: jax.lax.map(lambda key: trial(sent, key), keys)),
    )


@functools.cache
def trials(case: Case) -> tuple[Message, Message, Message]:
    """Messages, and both results of a trial for many keys (float64)."""
    sent = messages(case)
    keys = jax.random.split(jax.random.key(11), TRIALS)
    sums, alone = compiled(case).trials(sent, keys)
    return sent, *(
        Message(np.asarray(m.vector, np.float64), np.asarray(m.auxiliary, np.float64)) for m in (sums, alone)
    )


def check_form(case: Case) -> None:
    """Shapes and types are what the spec says before any data; decoding gives the incoming form."""
    run, sent = compiled(case), messages(case)
    spec = run.bound.spec
    one = Message(sent.vector[0], sent.auxiliary[0])
    coded = jax.eval_shape(run.bound.encode, one, jax.random.key(1), jax.random.key(2))
    kind = jnp.float32 if not spec.integer else jnp.int32 if spec.modulus_bits is None else jnp.uint32
    assert coded.vector.shape == (spec.dimension,)
    assert coded.vector.dtype == kind
    assert coded.auxiliary.shape == (len(spec.auxiliary),)
    assert coded.auxiliary.dtype == jnp.float32
    back = jax.eval_shape(run.bound.decode, coded, jax.random.key(2))
    assert back.vector.shape == (case.spec.dimension,)
    assert back.auxiliary.shape == (len(case.spec.auxiliary),)
    assert back.vector.dtype == one.vector.dtype
    assert case.stage.properties.summable == spec.summable


def check_unbiased(case: Case) -> None:
    """The mean over many keys is the ideal, coordinate by coordinate and in three directions (5.5 sigma)."""
    if not case.stage.properties.unbiased:
        return
    sent, sums, _ = trials(case)
    wanted = ideal(case, sent)
    off = np.concatenate([sums.vector - wanted.vector, sums.auxiliary - wanted.auxiliary], axis=1)
    size = np.concatenate(
        [np.full(case.spec.dimension, np.abs(wanted.vector).max()), np.abs(wanted.auxiliary)]
    )
    _within_chance(off, 2e-5 * (size + 1e-3))
    d = case.spec.dimension
    for direction in (np.ones(d), np.sign(wanted.vector), wanted.vector):
        projected = (sums.vector - wanted.vector) @ direction
        _within_chance(projected[:, None], np.asarray([2e-5 * np.abs(direction).sum() * size[0]]))


def _within_chance(off: np.ndarray, slack: np.ndarray) -> None:
    deviation = off.std(axis=0) / math.sqrt(len(off))
    wrong = np.abs(off.mean(axis=0)) > 5.5 * deviation + slack
    assert not wrong.any(), f"biased at {np.flatnonzero(wrong)[:5]}: {off.mean(axis=0)[wrong][:5]}"


def check_linear(case: Case) -> None:
    """With the round key fixed: a sum of encodings decodes to the sum of the decodings; c x to c times x."""
    if not case.stage.properties.linear:
        return
    run, sent, round_key = compiled(case), messages(case, 3), jax.random.key(5)

    def mass(m: Message) -> np.ndarray:
        # A weighting stage divides by the total weight; what is linear is the weighted sum.
        return np.asarray(m.vector, np.float64) * (float(m.auxiliary[0]) if case.weight else 1.0)

    coded = [
        run.encode(Message(*m), jax.random.key(i), round_key) for i, m in enumerate(zip(*sent, strict=True))
    ]
    total = jax.tree.map(lambda *parts: functools.reduce(jnp.add, parts), *coded)
    together, apart = mass(run.decode(total, round_key)), sum(mass(run.decode(c, round_key)) for c in coded)
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5 * np.abs(apart).max())
    tripled = run.encode(Message(3 * sent.vector[0], sent.auxiliary[0]), jax.random.key(0), round_key)
    tripled, single = mass(run.decode(tripled, round_key)), mass(run.decode(coded[0], round_key))
    np.testing.assert_allclose(tripled, 3 * single, rtol=1e-4, atol=1e-5 * np.abs(tripled).max())


def check_lossless(case: Case) -> None:
    """Decoding gives the ideal back up to float32 rounding, whatever the keys."""
    if not case.stage.properties.lossless:
        return
    sent, sums, _ = trials(case)
    wanted = ideal(case, sent)
    difference = np.abs(sums.vector - wanted.vector).max()
    assert difference <= 2e-6 * np.abs(np.asarray(sent.vector)).sum(0).max()


def check_error(case: Case) -> None:
    """The error of one client keeps to the stated bounds: the mean square within chance, the worst always."""
    sent, _, alone = trials(case)
    first = Message(sent.vector[:1], sent.auxiliary[:1])
    wanted = ideal(case, first)
    squares = ((alone.vector - wanted.vector) ** 2).sum(axis=1)
    x = np.asarray(first.vector[0], np.float64)
    slack = 5.5 * squares.std() / math.sqrt(len(squares)) + 1e-10 * (x @ x)
    assert squares.mean() <= case.mse(x) + slack
    if case.worst is not None:
        assert np.abs(alone.vector - wanted.vector).max() <= case.worst * (1 + 1e-5)
    # A fixed-point total is off by at most a step; where it then divides the means, they are off by two.
    bounds = np.asarray([s.bound if math.isfinite(s.bound) else 40.0 for s in case.spec.auxiliary])
    steps = 3 * case.auxiliary_step * np.maximum(bounds, 1) / max(float(wanted.auxiliary[0]), 0.05)
    assert (np.abs(alone.auxiliary - wanted.auxiliary) <= steps + 1e-5 * (1 + np.abs(wanted.auxiliary))).all()


def check_bytes(case: Case) -> None:
    """Packed bytes are as many as counted, by the spec and by hand, and unpack to the same bits."""
    run, sent = compiled(case), messages(case, 7)
    spec = run.bound.spec
    coded = run.encode(Message(sent.vector[1], sent.auxiliary[1]), jax.random.key(1), jax.random.key(2))
    coded = Message(*map(np.asarray, coded))
    data = wire.pack(coded, spec)
    assert len(data) == spec.bytes == case.length
    back = wire.unpack(data, spec)
    assert back.vector.dtype == coded.vector.dtype
    np.testing.assert_array_equal(back.vector, coded.vector)
    np.testing.assert_array_equal(back.auxiliary, coded.auxiliary)


def check_bounds(case: Case) -> None:
    """Hypothesis finds no message within the incoming bounds whose encoding breaks what the spec states."""
    run = compiled(case)
    spec = run.bound.spec
    limit = case.spec.linf or 1e4
    norm = case.spec.l2 or 1e5
    entry = st.sampled_from([0.0, limit, -limit, limit / 3, -limit / 100, 1e-12]) | st.floats(
        -limit, limit, width=32
    )

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(
        st.lists(entry, min_size=1, max_size=8),
        st.sampled_from(["spread", "spike"]),
        st.lists(
            st.floats(0, 1, width=32), min_size=len(case.spec.auxiliary), max_size=len(case.spec.auxiliary)
        ),
        st.integers(0, 1000),
    )
    def attack(values: list[float], shape: str, shares: list[float], seed: int) -> None:
        vector = np.zeros(case.spec.dimension)
        if shape == "spread":
            vector[:] = np.resize(values, vector.shape)
        else:
            vector[seed % len(vector)] = values[0]
        vector *= min(1.0, norm / max(float(np.linalg.norm(vector)), 1e-30))
        vector = np.trunc(vector).astype(np.int32) if case.spec.integer else vector.astype(np.float32)
        # Metrics are pushed to three times their bound: a stage has to clamp them, where whole numbers or noise come after it.
        auxiliary = [
            3 * share * (s.bound if math.isfinite(s.bound) else 1e4)
            for share, s in zip(shares, case.spec.auxiliary, strict=True)
        ]
        sent = Message(jnp.asarray(vector), jnp.asarray(auxiliary, jnp.float32))
        coded = run.encode(sent, jax.random.key(seed), jax.random.key(seed + 1))
        out = np.asarray(coded.vector, np.float64)
        if spec.l2 is not None:
            assert np.linalg.norm(out) <= spec.l2 * (1 + 1e-5)
        if spec.linf is not None:
            assert np.abs(out).max() <= spec.linf * (1 + 1e-5)
        if spec.nonzero is not None:
            assert np.count_nonzero(out) <= spec.nonzero
        if spec.modulus_bits is not None:
            assert out.max() < 2**spec.modulus_bits
        if spec.auxiliary != case.spec.auxiliary:
            for value, s in zip(np.asarray(coded.auxiliary), spec.auxiliary, strict=True):
                assert -0.0 <= value <= s.bound * (1 + 1e-6)

    attack()


def check_compilers(case: Case) -> None:
    """Eager, jit, vmap and an exported program give the same message (bits where promised)."""
    run, sent = compiled(case), messages(case, 9)
    keys = [jax.random.key(20 + i) for i in range(CLIENTS)]
    round_key = jax.random.key(4)
    each = [run.encode(Message(*m), k, round_key) for m, k in zip(zip(*sent, strict=True), keys, strict=True)]

    if not case.stage.parts:  # a chain only calls its stages, and compiling op by op takes long
        eager = run.bound.encode(Message(sent.vector[0], sent.auxiliary[0]), keys[0], round_key)
        _same(case, eager, each[0])

    at_once = jax.jit(jax.vmap(run.bound.encode, (0, 0, None)))(sent, jnp.stack(keys), round_key)
    for i, alone in enumerate(each):
        _same(case, Message(at_once.vector[i], at_once.auxiliary[i]), alone)

    def raw(vector: jax.Array, auxiliary: jax.Array, key: jax.Array, round_key: jax.Array) -> Message:
        wrap = jax.random.wrap_key_data
        return run.bound.encode(Message(vector, auxiliary), wrap(key), wrap(round_key))

    plain = (sent.vector[0], sent.auxiliary[0], jax.random.key_data(keys[0]), jax.random.key_data(round_key))
    program = export.export(jax.jit(raw))(*plain)
    _same(case, Message(*jax.tree.leaves(program.call(*plain))), each[0])
    text = program.mlir_module()
    assert "f64" not in text
    assert "callback" not in text


def _same(case: Case, one: Message, other: Message) -> None:
    a, b = np.asarray(one.vector), np.asarray(other.vector)
    assert a.dtype == b.dtype
    if case.exact:
        np.testing.assert_array_equal(a, b)
    elif a.dtype == np.float32:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    else:
        # After a float operation whose last bit compilers differ in, a rounding may fall the other way.
        apart = (a.astype(np.int64) - b.astype(np.int64)).astype(np.uint32).view(np.int32)
        assert np.abs(apart).max() <= 1
        assert np.count_nonzero(apart) <= 1
    np.testing.assert_allclose(one.auxiliary, other.auxiliary, rtol=1e-6)


def check_order(case: Case) -> None:
    """Whole numbers summed inside a compiled loop over clients give the same bits in any order of clients."""
    run, sent = compiled(case), messages(case, 13, clients=6)
    if not run.bound.spec.integer:
        return
    keys = jnp.stack([jax.random.key(i) for i in range(6)])

    @jax.jit
    def summed(sent: Message, keys: jax.Array, round_key: jax.Array) -> Message:
        def add(total: Message, one: tuple[Message, jax.Array]) -> tuple[Message, None]:
            return jax.tree.map(jnp.add, total, run.bound.encode(*one, round_key)), None

        form = jax.eval_shape(
            run.bound.encode, Message(sent.vector[0], sent.auxiliary[0]), keys[0], round_key
        )
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), form)
        return jax.lax.scan(add, empty, (sent, keys))[0]

    order = np.random.default_rng(1).permutation(6)
    one = summed(sent, keys, jax.random.key(8))
    other = summed(jax.tree.map(lambda leaf: leaf[order], sent), keys[order], jax.random.key(8))
    np.testing.assert_array_equal(one.vector, other.vector)
    np.testing.assert_allclose(one.auxiliary, other.auxiliary, rtol=1e-6)


CHECKS = (
    check_form,
    check_unbiased,
    check_linear,
    check_lossless,
    check_error,
    check_bytes,
    check_bounds,
    check_compilers,
    check_order,
)
