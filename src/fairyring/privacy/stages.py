"""Noise stages: everything that travels is rounded to an integer grid, and noise of known size is added on that grid.

A noise stage comes after the clip, and only a secure sum may follow it. Its encoding rounds the vector and the auxiliary
values to integers whose joint norm is certain; it adds no noise. The noise consists of integers, added outside of the
compiled program (`fairyring.privacy.source`): to the encoded message by the client (`distributed_noise`), or to the sum of
the messages by the server (the others).

Weight, loss and metrics are data about a person, just like an update. They take a share of the same guarantee: together
with them, one client's vector is one vector of bounded norm.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.aggregation.contract import (
    BoundStage,
    Message,
    MessageSpec,
    Properties,
    Stage,
    require_positive,
    require_real,
)
from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.core.noise import Noise, NoiseRequest
from fairyring.privacy._grid import Grid, fit

_PROPERTIES = Properties(unbiased=False, linear=False, lossless=False)
_USUAL_SHARE = 0.05


def gaussian_noise(multiplier: float | None = None, *, auxiliary_share: float = _USUAL_SHARE) -> Stage:
    """Central Gaussian noise: the server adds it to the sum (McMahan et al. 2018, "Learning differentially private
    recurrent language models").

    The noise is a continuous Gaussian rounded to integers, so the guarantee is exactly that of the Gaussian mechanism.
    Clients must trust the server to add it. Under `secure_sum` the server sees the sum before noise, but nothing else.

    Args:
        multiplier: standard deviation of the noise relative to how much one client can change the sum. None: the plan's
            budget decides.
        auxiliary_share: share of the guarantee (in 1 / variance) for weight, loss and metrics together.

    Raises:
        PlanError: an argument is out of range; when bound: no clip before it, an auxiliary value without a bound,
            or no grid on which the sum fits.
    """
    return _stage("gaussian_noise", NoiseRequest("gaussian", _multiplier(multiplier)), auxiliary_share)


def correlated_noise(
    multiplier: float | None = None, *, bands: int | None = None, auxiliary_share: float = _USUAL_SHARE
) -> Stage:
    """Central noise that partly cancels over rounds: a banded inverse square root (Kalinin and Lampert 2024, "Banded
    square root matrix factorization for differentially private model training"; the DP-FTRL family).

    The noise of round t is `sum_j r_j z_(t-j)` over `bands` rounds. The promise is for all rounds together, and rests on how often,
    and how far apart, a device takes part: use `fr.cohort.in_turn`. The server adds the noise, and keeps its secret until
    the run has ended.

    Args:
        multiplier: standard deviation of `z` relative to how much one client can change the sum of a round. None: the
            budget decides.
        bands: number of coefficients. None: the number with the smallest error for the budget's rounds.
        auxiliary_share: as in `gaussian_noise`.

    Raises:
        PlanError: as `gaussian_noise`.
    """
    if bands is not None:
        bands = whole_number("correlated_noise bands", bands)
    return _stage(
        "correlated_noise", NoiseRequest("correlated", _multiplier(multiplier), bands), auxiliary_share
    )


def distributed_noise(
    mechanism: str = "skellam",
    multiplier: float | None = None,
    *,
    shares: int | None = None,
    shortfall: str = "abort",
    auxiliary_share: float = _USUAL_SHARE,
) -> Stage:
    """Noise that the clients add themselves, before masking: the server sees only a noisy sum.

    `"skellam"` (Agarwal, Kairouz, Liu 2021) is closed under sums; `"discrete_gaussian"` (Kairouz, Liu, Steinke 2021) nearly
    so. Each client adds its share; `shares` honest shares are enough for the promise. Put `rotate()` before it, which allows
    a finer grid, and `secure_sum()` after it.

    Args:
        mechanism: `"skellam"` or `"discrete_gaussian"`.
        multiplier: standard deviation of the noise of `shares` clients relative to how much one client can change the sum.
            None: the plan's budget decides.
        shares: number of honest clients' shares that make up the promised noise. None: the smallest number of honest
            clients in a secure sum.
        shortfall: what happens to a sum with fewer shares. `"abort"`: clients do not unmask it. `"top_up"`: the server
            adds the missing noise, and is trusted to do so.
        auxiliary_share: as in `gaussian_noise`.

    Raises:
        PlanError: as `gaussian_noise`; unknown mechanism or shortfall.
    """
    for name, value, known in (
        ("mechanism", mechanism, ("skellam", "discrete_gaussian")),
        ("shortfall", shortfall, ("abort", "top_up")),
    ):
        if value not in known:
            raise PlanError(
                f"distributed_noise {name}",
                given=repr(value),
                expected=" or ".join(map(repr, known)),
                do="Choose one of them.",
            )
    if shares is not None:
        shares = whole_number("distributed_noise shares", shares)
    request = NoiseRequest(mechanism, _multiplier(multiplier), 0, shares, shortfall == "top_up")
    return _stage("distributed_noise", request, auxiliary_share)


def _multiplier(value: float | None) -> float | None:
    return None if value is None else require_positive("noise", "multiplier", value)


def _stage(kind: str, request: NoiseRequest, auxiliary_share: float) -> Stage:
    if (
        isinstance(auxiliary_share, bool)
        or not isinstance(auxiliary_share, int | float)
        or not 0 < auxiliary_share < 1
    ):
        raise PlanError(
            f"{kind} auxiliary_share",
            given=repr(auxiliary_share),
            expected="a number between 0 and 1",
            do="Leave it out for 0.05.",
        )
    distributed = request.shares != 0
    settings = {
        **({"mechanism": request.mechanism} if distributed else {}),
        "multiplier": request.multiplier,
        **({"bands": request.bands} if request.mechanism == "correlated" else {}),
        **(
            {"shares": request.shares, "shortfall": "top_up" if request.top_up else "abort"}
            if distributed
            else {}
        ),
        "auxiliary_share": float(auxiliary_share),
    }
    usual = {
        "multiplier": None,
        "bands": None,
        "shares": None,
        "shortfall": "abort",
        "auxiliary_share": _USUAL_SHARE,
    }
    shown = [f"{k}={v!r}" for k, v in settings.items() if k not in usual or v != usual[k]]
    name = f"{kind}({', '.join(shown)})"

    def bind(spec: MessageSpec) -> BoundStage:
        return _bind(name, request, auxiliary_share, spec)

    def with_noise(multiplier: float, bands: int) -> Stage:
        chosen = request.bands if request.bands is not None else bands
        return _stage(kind, request._replace(multiplier=multiplier, bands=chosen), auxiliary_share)

    return Stage(
        name, bind, False, tuple(settings.items()), _PROPERTIES, kind, noise=request, with_noise=with_noise
    )


def _bind(name: str, request: NoiseRequest, auxiliary_share: float, spec: MessageSpec) -> BoundStage:
    _check(name, spec)
    if request.multiplier is None or request.bands is None:
        raise PlanError(
            name,
            given="no noise multiplier" if request.multiplier is None else "no number of bands",
            expected="a number, or a plan whose budget decides it",
            do="Give multiplier= (and bands=), or the plan privacy=fr.Budget(epsilon, delta, rounds=...).",
        )
    shares = 0 if request.shares == 0 else request.shares or spec.honest
    grid = fit(name, spec, request, shares, auxiliary_share)
    heaviest, (_, halves) = spec.auxiliary[0].bound, _halves(spec)
    units = (0.0 if grid.counts else heaviest, *map(float, halves))
    noise = Noise(
        request.mechanism,
        request.multiplier,
        grid.coordinates,
        grid.l2,
        grid.l1,
        grid.scale,
        grid.dimension,
        request.bands,
        shares,
        request.top_up,
        tuple(grid.auxiliary_step * unit for unit in units),
    )
    out = spec.replace(
        dimension=grid.length,
        auxiliary=(),
        l2=math.hypot(grid.l2, float(grid.counts)),
        linf=float(grid.largest),
        linf_failure=0.0,
        bits=min(32, int(grid.largest).bit_length() + 1),
        nonzero=None,
        integer=True,
        noise=noise,
    )
    return BoundStage(out, _encoder(grid, spec), _decoder(grid, spec))


def _check(name: str, spec: MessageSpec) -> None:
    if spec.noise is not None or spec.integer or spec.modulus_bits is not None:
        if spec.noise is None and spec.modulus_bits is None:
            raise PlanError(
                f"a chain with {name} after quantize",
                given="a vector that is already rounded",
                expected="a clipped vector of real numbers: the noise stage rounds it itself, to a known norm",
                do="Leave quantize out.",
            )
        require_real(spec, name)
    if spec.l2 is None:
        raise PlanError(
            name,
            given="updates of any length",
            expected="a bound on what one client can change",
            do="Put clip(norm) before the noise, and give weight_by_examples a bound, or clip after it.",
        )
    for auxiliary in spec.auxiliary:
        if not math.isfinite(auxiliary.bound):
            raise PlanError(
                f"{name}, coordinate {auxiliary.name!r}",
                given="no bound",
                expected="a bound for everything that travels: noise of a fixed size must cover it",
                do="Use weight_by_examples(bound=...) or weight_uniformly(), and give the metric a bound.",
            )


def _encoder(grid: Grid, spec: MessageSpec) -> Callable[[Message, jax.Array, jax.Array], Message]:
    half, first = _halves(spec)

    def encode(message: Message, client_key: jax.Array, round_key: jax.Array) -> Message:
        vector = grid.rounded(message.vector, client_key)
        # A metric is centred on the middle of its range, which halves its largest magnitude.
        weight = message.auxiliary[0]
        centred = jnp.concatenate(
            [weight[None] / spec.auxiliary[0].bound, (message.auxiliary[1:] - weight * half) / first]
        )
        auxiliary = grid.rounded_auxiliaries(centred, client_key)
        parts = [vector, auxiliary]
        if grid.counts:
            parts.append(jnp.ones((1,), jnp.int32))
        return Message(jnp.concatenate(parts), jnp.zeros((0,), jnp.float32))

    return encode


def _decoder(grid: Grid, spec: MessageSpec) -> Callable[[Message, jax.Array], Message]:
    half, first = _halves(spec)
    heaviest = spec.auxiliary[0].bound

    def decode(total: Message, round_key: jax.Array) -> Message:
        vector = total.vector[: grid.dimension].astype(jnp.float32) * np.float32(1.0 / grid.scale)
        auxiliaries = grid.auxiliary_sums(total.vector)
        if grid.counts:
            weight = total.vector[-1].astype(jnp.float32) * heaviest
        else:  # noise may make it small or negative: use at least one client's weight
            weight = jnp.maximum(auxiliaries[0] * heaviest, heaviest)
        return Message(vector, jnp.concatenate([weight[None], auxiliaries[1:] * first + weight * half]))

    return decode


def _halves(spec: MessageSpec) -> tuple[np.ndarray, np.ndarray]:
    """For each auxiliary value after the weight: the middle of its range at weight 1, and half its range."""
    bounds = np.asarray([auxiliary.bound for auxiliary in spec.auxiliary[1:]], np.float32)
    first = np.where(bounds > 0, bounds / 2, np.float32(1))
    return bounds / np.float32(2 * spec.auxiliary[0].bound), first
