"""The battery notices stages that lie: each of these breaks one promise, and the check for it fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from hypothesis import Phase, settings

from fairyring.aggregation import BoundStage, Message, MessageSpec
from tests.aggregation import battery
from tests.aggregation.battery import Case
from tests.aggregation.cases import CASES

KNOWN = {case.name: case for case in CASES}


def altered(name: str, change: Callable[[BoundStage, MessageSpec], BoundStage], **claims: bool) -> Case:
    """The case `name`, its stage changed after binding, with other claims."""
    case = KNOWN[name]
    good = case.stage

    def bind(spec: MessageSpec) -> BoundStage:
        return change(good.bind(spec), spec)

    properties = good.properties._replace(**claims)
    return replace(case, name=f"broken {name}", stage=replace(good, bind=bind, properties=properties))


def biased_rounding(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    """Rounds to the nearest level, as one is tempted to."""
    step = spec.linf / bound.spec.linf

    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return Message(jnp.round(m.vector / step).astype(jnp.int32), m.auxiliary)

    return bound._replace(encode=encode)


def rounding_down(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    step = spec.linf / bound.spec.linf

    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return Message(jnp.floor(m.vector / step).astype(jnp.int32), m.auxiliary)

    return bound._replace(encode=encode)


def scaled(factor: float) -> Callable[[BoundStage, MessageSpec], BoundStage]:
    def change(bound: BoundStage, spec: MessageSpec) -> BoundStage:
        def decode(m: Message, round_key: jax.Array) -> Message:
            out = bound.decode(m, round_key)
            return Message(out.vector * factor, out.auxiliary)

        return bound._replace(decode=decode)

    return change


def unchanged(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    return bound


def stating(**changes: object) -> Callable[[BoundStage, MessageSpec], BoundStage]:
    return lambda bound, spec: bound._replace(spec=bound.spec.replace(**changes))


def wider(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    """Sends values beyond what it says."""

    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return bound.encode(m, client_key, round_key)._replace(vector=m.vector)

    return bound._replace(encode=encode)


def unclamped(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        out = bound.encode(m, client_key, round_key)
        return Message(out.vector, jnp.concatenate([out.auxiliary[:1], m.auxiliary[1:]]))

    return bound._replace(encode=encode)


def other_signs_on_the_server(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    def decode(m: Message, round_key: jax.Array) -> Message:
        return bound.decode(m, jax.random.fold_in(round_key, 1))

    return bound._replace(decode=decode)


def private_choice(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    """Each client chooses its own coordinates, which the server does not know."""

    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        return bound.encode(m, client_key, client_key)

    return bound._replace(encode=encode)


def saturating(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    """Forgets to wrap: the vector is not below the modulus."""

    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        out = bound.encode(m, client_key, round_key)
        d = spec.dimension
        return Message(out.vector.at[:d].set(m.vector.astype(jnp.uint32)), out.auxiliary)

    return bound._replace(encode=encode)


def remembering(bound: BoundStage, spec: MessageSpec) -> BoundStage:
    """Depends on more than the message and its keys: on how often it was traced."""
    calls = []

    def encode(m: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        calls.append(None)
        out = bound.encode(m, client_key, round_key)
        return Message(out.vector + len(calls), out.auxiliary)

    return bound._replace(encode=encode)


BROKEN = (
    (altered("quantize_ternary", biased_rounding), battery.check_unbiased),
    (altered("quantize_16", rounding_down), battery.check_unbiased),
    (altered("quantize", scaled(1.01)), battery.check_unbiased),
    (altered("random_k", scaled(0.25)), battery.check_unbiased),
    (altered("random_k", scaled(1.5)), battery.check_error),
    (altered("random_k", private_choice), battery.check_unbiased),
    (altered("rotate", scaled(1.0001)), battery.check_lossless),
    (altered("rotate", other_signs_on_the_server), battery.check_error),
    (altered("clip", unchanged, linear=True), battery.check_linear),
    (replace(altered("clip", unchanged, unbiased=True), ideal_of=lambda x: x), battery.check_unbiased),
    (altered("quantize", unchanged, linear=True), battery.check_linear),
    (altered("quantize", unchanged, lossless=True), battery.check_lossless),
    (altered("count_sketch_median", unchanged, linear=True), battery.check_linear),
    (altered("top_k", stating(summable=True)), battery.check_form),
    (altered("top_k", stating(nonzero=20)), battery.check_bounds),
    (altered("quantize", stating(bits=9)), battery.check_bytes),
    (altered("weight_uniformly", stating(auxiliary=())), battery.check_form),
    (altered("clip", stating(l2=0.25)), battery.check_bounds),
    (altered("clip", wider), battery.check_bounds),
    (altered("rotate_128", stating(linf=0.1)), battery.check_bounds),
    (altered("weight_by_examples_bounded", unclamped), battery.check_bounds),
    (altered("secure_sum_19", saturating), battery.check_bounds),
    (altered("quantize", remembering), battery.check_compilers),
)


@pytest.fixture
def _first_failure() -> Iterator[None]:
    """A failure is what is wanted here: nobody reads a smaller one, which takes long to find."""
    usual = settings.get_current_profile_name()
    settings.register_profile("first failure", settings(phases=[Phase.explicit, Phase.generate]))
    settings.load_profile("first failure")
    yield
    settings.load_profile(usual)


@pytest.mark.usefixtures("_first_failure")
@pytest.mark.parametrize(
    ("case", "check"), BROKEN, ids=lambda value: getattr(value, "name", getattr(value, "__name__", ""))
)
def test_the_battery_notices(case: Case, check: Callable[[Case], None]) -> None:
    with pytest.raises(AssertionError):
        check(case)


def test_nothing_else_was_broken() -> None:
    """The same machinery without a change passes, so it is the change that is noticed."""
    same = altered("quantize", unchanged)
    for check in (battery.check_unbiased, battery.check_error, battery.check_bytes, battery.check_bounds):
        check(same)
