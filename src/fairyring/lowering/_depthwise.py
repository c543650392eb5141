"""Grouped convolutions: groups of one channel as multiply-adds, larger groups as batched matrix products."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.lowering._direct import taps, untap


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, w: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Each channel of `x` `[n, h, w, c]` with its own filters `w` `[k, k, 1, c * m]`: `[n, h', w', c * m]`."""
    c, m = x.shape[3], w.shape[3] // x.shape[3]
    pieces = taps(x, w.shape[:2], _out(x, w, strides), strides)
    filters = w.reshape(-1, c, m)
    if m == 1:
        return _sum([piece * f[:, 0] for piece, f in zip(pieces, filters, strict=True)])
    y = _sum([piece[..., None] * f for piece, f in zip(pieces, filters, strict=True)])
    return y.reshape(*y.shape[:3], c * m)


def _forward(
    x: jax.Array, w: jax.Array, strides: tuple[int, ...]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, w, strides), (x, w)


def _backward(
    strides: tuple[int, ...], residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = residuals
    c, m = x.shape[3], w.shape[3] // x.shape[3]
    pieces = taps(x, w.shape[:2], g.shape[1:3], strides)
    if m == 1:
        # The transpose of a depthwise convolution is another one, of the dilated cotangent with flipped filters. It is
        # one fused pass over memory; a sum of padded pieces would be many.
        edges = [
            (k - 1, d - (n - 1) * s - 1, s - 1)
            for k, d, n, s in zip(w.shape[:2], x.shape[1:3], g.shape[1:3], strides, strict=True)
        ]
        spread = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        dx: Any = depthwise(spread, w[::-1, ::-1], (1, 1))
        # A last axis of length 1 would be the loop over vectors.
        dw = [(piece * g).sum((0, 1, 2)) for piece in pieces]
    else:
        g = g.reshape(*g.shape[:3], c, m)
        dx = untap([(g * f).sum(-1) for f in w.reshape(-1, c, m)], x.shape, w.shape[:2], strides)
        dw = [(piece[..., None] * g).sum((0, 1, 2)) for piece in pieces]
    return dx, jnp.stack(dw).reshape(w.shape)


depthwise.defvjp(_forward, _backward)


def grouped(x: jax.Array, w: jax.Array, groups: int, strides: tuple[int, ...]) -> jax.Array:
    """`groups` convolutions side by side: `x` `[n, h, w, c]`, `w` `[k, k, c / groups, o]`: `[n, h', w', o]`."""
    kh, kw, c, o = w.shape
    pieces = taps(x, (kh, kw), _out(x, w, strides), strides)
    n, h, v = pieces[0].shape[:3]
    windows = jnp.stack([p.reshape(-1, groups, c) for p in pieces], axis=2)  # rows, groups, taps, channels
    windows = windows.transpose(1, 0, 2, 3).reshape(groups, n * h * v, kh * kw * c)
    filters = w.reshape(kh * kw * c, groups, o // groups).transpose(1, 0, 2)
    return (windows @ filters).transpose(1, 0, 2).reshape(n, h, v, o)


def _out(x: jax.Array, w: jax.Array, strides: tuple[int, ...]) -> tuple[int, ...]:
    return (x.shape[1] - w.shape[0]) // strides[0] + 1, (x.shape[2] - w.shape[1]) // strides[1] + 1


def _sum(terms: list[jax.Array]) -> jax.Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
