"""Recurrent layers as loops over time, in the form that `fairyring.lowering` makes fast.

Each step multiplies its input and its state, as the layers' equations say. The engine takes the products with inputs out of the loop, forward
and backward; it finds them in the loop only.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairyring.task.pytorch.operators.values import Handler, Untranslatable
from fairyring.task.zoo.layers import dropout

State = tuple[jax.Array, ...]
Cell = Callable[[jax.Array, State, "_Weights"], State]
"""`(what the input adds [B, gates], state, weights) -> next state`; a state's first array is what the layer returns."""


class _Weights(NamedTuple):
    """The weights of a layer in one direction: `[gates, in]`, `[gates, units]`, and None for what it has not."""

    of_input: jax.Array
    of_state: jax.Array
    input_bias: jax.Array | None
    state_bias: jax.Array | None
    projection: jax.Array | None = None


def _product(state: jax.Array, weight: jax.Array) -> jax.Array:
    return lax.dot_general(state, weight, (((1,), (1,)), ((), ())))


def _lstm(driven: jax.Array, state: State, weights: _Weights) -> State:
    hidden, memory = state
    gates = driven + _product(hidden, weights.of_state)
    i, f, g, o = jnp.split(gates, 4, axis=1)
    memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
    if weights.projection is not None:
        hidden = _product(hidden, weights.projection)
    return hidden, memory


def _gru(driven: jax.Array, state: State, weights: _Weights) -> State:
    (hidden,) = state
    own = _product(hidden, weights.of_state)
    own = own if weights.state_bias is None else own + weights.state_bias
    (reset, update, new), (own_reset, own_update, own_new) = (
        jnp.split(part, 3, axis=1) for part in (driven, own)
    )
    update = jax.nn.sigmoid(update + own_update)
    new = jnp.tanh(new + jax.nn.sigmoid(reset + own_reset) * own_new)
    return ((1 - update) * new + update * hidden,)


def _simple(activation: Callable[[jax.Array], jax.Array]) -> Cell:
    def cell(driven: jax.Array, state: State, weights: _Weights) -> State:
        return (activation(driven + _product(state[0], weights.of_state)),)

    return cell


def _driven(x: jax.Array, weights: _Weights, cell: Cell) -> jax.Array:
    """What the input of a step adds: `[B, in]` -> `[B, gates]`. A GRU scales the state's bias, so there the cell adds it."""
    product, bias = _product(x, weights.of_input), weights.input_bias
    if bias is None:
        return product
    if weights.state_bias is not None and cell is not _gru:
        bias = bias + weights.state_bias
    return product + bias


def _layers(
    cell: Cell,
    x: jax.Array,
    start: Sequence[jax.Array],
    params: Sequence[jax.Array],
    *,
    has_biases: bool,
    num_layers: int,
    rate: float,
    bidirectional: bool,
    batch_first: bool,
    draw: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """The outputs and the last states, `[layers * directions, B, units]` each.

    Args:
        cell: of the layers.
        x: `[T, B, in]`, `[B, T, in]` if the batch is first, or `[T, in]`.
        start: the first states, `[layers * directions, B, units]` each.
        params: the weights of layer after layer, in both directions, as PyTorch orders them.
        has_biases, num_layers, bidirectional, batch_first: as in PyTorch.
        rate: of the dropout between layers.
        draw: a key if there is dropout.
    """
    alone = x.ndim == 2
    if alone:
        x, start = x[:, None], [s[:, None] for s in start]
    elif batch_first:
        x = x.swapaxes(0, 1)
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    ends: list[State] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            weights = _weights(params[at * each : (at + 1) * each], has_biases)
            output, end = _loop(cell, x, tuple(s[at] for s in start), weights, reverse=direction == 1)
            outputs.append(output)
            ends.append(end)
        x = outputs[0] if directions == 1 else jnp.concatenate(outputs, axis=2)
        if draw is not None and rate > 0 and layer + 1 < num_layers:
            x = dropout(x.swapaxes(0, 1), rate, jax.random.fold_in(draw, layer)).swapaxes(0, 1)
    last = [jnp.stack(part) for part in zip(*ends, strict=True)]
    if alone:
        return (x[:, 0], *(part[:, 0] for part in last))
    return (x.swapaxes(0, 1) if batch_first else x, *last)


def _weights(params: Sequence[jax.Array], has_biases: bool) -> _Weights:
    biases = (params[2], params[3]) if has_biases else (None, None)
    rest = params[4:] if has_biases else params[2:]
    return _Weights(params[0], params[1], *biases, *rest)


def _loop(
    cell: Cell, x: jax.Array, start: State, weights: _Weights, *, reverse: bool
) -> tuple[jax.Array, State]:
    def step(state: State, now: jax.Array) -> tuple[State, jax.Array]:
        state = cell(_driven(now, weights, cell), state, weights)
        return state, state[0]

    end, outputs = lax.scan(step, start, x, reverse=reverse)
    return outputs, end


def _recurrent(cell: Cell) -> Handler:
    def layers(
        x: jax.Array,
        hx: Any,
        params: Sequence[jax.Array],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
        draw: jax.Array | None,
    ) -> tuple[jax.Array, ...]:
        if dropout >= 1:
            raise Untranslatable("its dropout is 1: a layer would receive zeros only", "Use a rate below 1.")
        return _layers(
            cell,
            x,
            hx if isinstance(hx, list | tuple) else [hx],
            params,
            has_biases=has_biases,
            num_layers=num_layers,
            rate=dropout,
            bidirectional=bidirectional,
            batch_first=batch_first,
            draw=draw if train else None,
        )

    return layers


def _one_step(cell: Cell) -> Handler:
    def step(
        x: jax.Array,
        hx: Any,
        w_ih: jax.Array,
        w_hh: jax.Array,
        b_ih: jax.Array | None,
        b_hh: jax.Array | None,
    ) -> Any:
        weights = _Weights(w_ih, w_hh, b_ih, b_hh)
        state = tuple(hx) if isinstance(hx, list | tuple) else (hx,)
        if x.ndim == 1:
            after = tuple(
                part[0]
                for part in cell(_driven(x[None], weights, cell), tuple(s[None] for s in state), weights)
            )
        else:
            after = cell(_driven(x, weights, cell), state, weights)
        return after if isinstance(hx, list | tuple) else after[0]

    return step


_TANH, _RELU = _simple(jnp.tanh), _simple(jax.nn.relu)

OPERATORS: dict[str, Handler] = {
    "aten.lstm.input": _recurrent(_lstm),
    "aten.gru.input": _recurrent(_gru),
    "aten.rnn_tanh.input": _recurrent(_TANH),
    "aten.rnn_relu.input": _recurrent(_RELU),
    "aten.lstm_cell.default": _one_step(_lstm),
    "aten.gru_cell.default": _one_step(_gru),
    "aten.rnn_tanh_cell.default": _one_step(_TANH),
    "aten.rnn_relu_cell.default": _one_step(_RELU),
}
