"""A plan packed for devices: the manifest that its author signs, and the blobs that the manifest names by their digests."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.code import Columns
from fairyring.learning.encoding import encoding
from fairyring.learning.plan import Plan
from fairyring.learning.program import Program
from fairyring.messages.manifest import Array, Limits, Manifest, Promise, sign
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.participation import AtMost
from fairyring.publishing.compiling import compiled_for
from fairyring.secagg import Identity

# Without a budget nothing is spent by taking part again: rounds that were aborted may be tried again so often.
TRIES = 4


@dataclass(frozen=True)
class Package:
    """A plan as devices get it.

    Attributes:
        manifest: what the author has signed.
        signed: its bytes with the signature; see `fairyring.messages.read_manifest`.
        blobs: the programs, by SHA-256.
    """

    manifest: Manifest
    signed: bytes
    blobs: dict[bytes, bytes]

    @property
    def digest(self) -> bytes:
        """SHA-256 of `signed`, by which devices and services name the manifest."""
        return hashlib.sha256(self.signed).digest()


def package(
    plan: Plan,
    author: Identity,
    *,
    name: str,
    rounds: int,
    columns: Columns,
    examples: int,
    targets: Sequence[str] = ("jax",),
    participants: bool = False,
    seconds: float = 600.0,
    memory: int = 2 << 30,
    expires: float | None = None,
) -> Package:
    """Export and compile a plan's device half, and sign what devices must know of it.

    Args:
        plan: the plan.
        author: signs it.
        name: of the plan, for people.
        rounds: that it will have at most.
        columns: what a row of each column that the task reads looks like: `plan.task.columns_of(population)`.
        examples: the most examples that a device uses in a round; one that has fewer uses those.
        targets: for which the program is compiled; see `TARGETS`.
        participants: also compile the stages by themselves, for participants with a training of their own, under `encode-` and the target.
            Where the plan is not for them, that is left out.
        seconds, memory: what training in a round may take on a device, in bytes.
        expires: when devices take the manifest no longer, in seconds since 1970.

    Raises:
        PlanError: the plan's model has arrays that devices cannot have, or its budget does not allow so many rounds.
        MissingExtra: a compiler is missing.
    """
    program = plan.program(columns, examples)
    programs = {target: compiled_for(target, program) for target in targets}
    if participants and (stages := _stages(plan)) is not None:
        programs |= {f"encode-{target}": compiled_for(target, stages) for target in targets}
    blobs = {hashlib.sha256(data).digest(): data for data in programs.values()}
    protection, noise = plan.protection, plan.noise
    by_steps = plan.example_stages is not None
    manifest = Manifest(
        name=name,
        description=repr(plan).strip("<>"),
        statements=_statements(plan),
        plan=bytes.fromhex(plan.digest(columns)),
        document=json.dumps(plan.document(), sort_keys=True, separators=(",", ":")).encode(),
        author=author.public,
        columns=tuple(Array.of(name, shape, dtype) for name, (shape, dtype) in columns.items()),
        examples=examples,
        arguments=tuple(Array.of(a.name, a.shape, a.dtype) for a in program.arguments),
        results=tuple(Array.of(r.name, r.shape, r.dtype) for r in program.results),
        model=_model(plan),
        programs={target: hashlib.sha256(data).digest() for target, data in programs.items()},
        message=plan.bound.spec,
        terms=plan.terms,
        step_noise=noise if by_steps else None,
        rate=plan.local.rate if by_steps else None,
        limits=Limits(rounds, _participations(plan, rounds), _separation(plan), seconds, memory),
        promise=Promise(protection.budget.epsilon, protection.budget.delta, protection.budget.unit)
        if protection is not None
        else None,
        expires=expires,
    )
    return Package(manifest, sign(manifest, author).encode(), blobs)


def _stages(plan: Plan) -> Program | None:
    """The plan's stages as a program; None where clients send more than an update."""
    try:
        return encoding(plan)
    except PlanError:
        return None


def _model(plan: Plan) -> tuple[Array, ...]:
    """The arrays that are broadcast: parameters, then the algorithm's state on the server."""
    state = jax.eval_shape(plan.algorithm.server_state, plan.params_shape)
    leaves, _ = jax.tree_util.tree_flatten_with_path((plan.params_shape, state))
    for path, leaf in leaves:
        if np.dtype(leaf.dtype).kind != "f":
            raise PlanError(
                f"parameter {jax.tree_util.keystr(path)}",
                given=f"{leaf.dtype}",
                expected="float16, float32 or float64, which devices without JAX have too",
                do="Keep parameters in float32.",
            )
    own = jax.eval_shape(plan.algorithm.client_state, plan.params_shape)
    if jax.tree.leaves(own):
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), plan.params_shape)
        if any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(plan.algorithm.client_state(zeros))):
            raise PlanError(
                f"algorithm {plan.algorithm.name}",
                given="a state on clients that does not begin at zero",
                expected="one that does: a device begins with zeros",
                do="Subtract what it begins with.",
            )
    return tuple(Array.of(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves)


def _separation(plan: Plan) -> int:
    participation = plan.protection.participation if plan.protection is not None else None
    return participation.separation if isinstance(participation, AtMost) else 1


def _participations(plan: Plan, rounds: int) -> int:
    """How often a device may contribute without that more is spent than the plan promises."""
    protection = plan.protection
    if protection is None or math.isinf(protection.budget.epsilon):
        return rounds * TRIES
    budget, participation = protection.budget, protection.participation
    accountant = Accountant(participation, budget.delta, budget.unit)
    if not accountant.fits({protection.release: rounds}, budget.epsilon):
        raise PlanError(
            "rounds",
            given=f"{rounds}",
            expected=f"no more than a budget of epsilon {budget.epsilon:g} allows",
            do="Give fewer rounds, more noise, or a larger budget.",
        )
    return participation.maximum(rounds) if isinstance(participation, AtMost) else rounds


def _statements(plan: Plan) -> tuple[str, ...]:
    """What the plan promises to the owner of a device, in sentences."""
    protection, terms = plan.protection, plan.terms
    if terms is not None:
        said = [terms.says()]
    else:
        said = ["The server sees the update of this device by itself: nothing masks it."]
    if protection is None or math.isinf(protection.budget.epsilon):
        said.append("Nothing bounds what the trained model tells about this device's examples.")
    else:
        budget = protection.budget
        whose = "this device's examples together" if budget.unit == "device" else "any one example"
        adds = (
            "devices add the noise"
            if plan.noise is not None and plan.noise.distributed
            else "the server adds the noise, and is trusted to"
        )
        if protection.release.steps:
            adds = "each device adds the noise in its own training"
        said.append(
            f"What all models together tell about {whose} is bounded: epsilon {budget.epsilon:g} at delta {budget.delta:g}; {adds}."
        )
    return tuple(said)
