"""Composing stages."""

import jax

from fairyring.aggregation.contract import BoundStage, Message, MessageSpec, Properties, Stage
from fairyring.aggregation.weighting import weight_uniformly
from fairyring.core.errors import PlanError


def chain(*stages: Stage) -> Stage:
    """Compose stages, as `optax.chain` composes transformations: encode in order, decode in reverse.

    A chain within a chain is flattened. Stage `i` uses the key `fold_in(key, i)`, so no two stages share
    randomness. Without stages, the aggregation is the plain float32 sum.

    Raises:
        PlanError: an argument is not a stage, or two stages decide the weight or add noise; when bound: a stage
            cannot follow the one before it.
    """
    parts: list[Stage] = []
    for stage in stages:
        if not isinstance(stage, Stage):
            raise PlanError(
                "chain",
                given=getattr(stage, "__name__", repr(stage)),
                expected="stages",
                do="Call the function that makes the stage, such as clip(0.5).",
            )
        parts.extend(stage.singles)
    noisy = [part for part in parts if part.noise]
    if len(noisy) > 1:
        raise PlanError(
            "chain",
            given=" and ".join(map(repr, noisy)),
            expected="one noise stage",
            do="Remove one of them.",
        )
    weightings = [part for part in parts if part.weighting]
    if len(weightings) > 1:
        raise PlanError(
            "chain",
            given=" and ".join(map(repr, weightings)),
            expected="one stage that decides the weight of a client",
            do="Remove one of them.",
        )

    def bind(spec: MessageSpec) -> BoundStage:
        bounds: list[BoundStage] = []
        for part in parts:  # stages before the secure sum need to know its modulus
            spec = spec.replace(sum_bits=part.masking.modulus_bits) if part.masking else spec
        spec = spec.replace(holds_bounds=any(part.masking or part.noise for part in parts))
        for part in parts:
            bounds.append(part.bind(bounds[-1].spec if bounds else spec))

        def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
            for position, bound in enumerate(bounds):
                keys = jax.random.fold_in(client_key, position), jax.random.fold_in(round_key, position)
                message = bound.encode(message, *keys)
            return message

        def decode(total: Message, round_key: jax.Array) -> Message:
            for position in reversed(range(len(bounds))):
                total = bounds[position].decode(total, jax.random.fold_in(round_key, position))
            return total

        clips = any(bound.relative_norm for bound in bounds)

        def relative_norm(message: Message, client_key: jax.Array, round_key: jax.Array) -> jax.Array:
            for position, bound in enumerate(bounds):
                keys = jax.random.fold_in(client_key, position), jax.random.fold_in(round_key, position)
                if bound.relative_norm is not None:
                    return bound.relative_norm(message, *keys)
                message = bound.encode(message, *keys)
            raise AssertionError("a chain without a clip has no relative norm")

        last = bounds[-1].spec if bounds else spec
        return BoundStage(last, encode, decode, relative_norm if clips else None)

    properties = Properties(unbiased=True, linear=True, lossless=True)
    for part in parts:
        properties = properties.then(part.properties)

    def with_noise(multiplier: float, bands: int) -> Stage:
        return chain(*(part.with_noise(multiplier, bands) if part.with_noise else part for part in parts))

    return Stage(
        f"chain({', '.join(map(repr, parts))})",
        bind,
        bool(weightings),
        properties=properties,
        bounds_influence=any(part.bounds_influence for part in parts),
        chained=True,
        parts=tuple(parts),
        masking=next((part.masking for part in parts if part.masking), None),
        noise=noisy[0].noise if noisy else None,
        with_noise=with_noise if noisy else None,
    )


def complete(stage: Stage) -> Stage:
    """`stage` as a complete aggregation: without a weighting stage, every client has weight 1."""
    return chain(stage) if stage.weighting else chain(weight_uniformly(), stage)
