"""The LSTM layer (Hochreiter & Schmidhuber 1997), with an explicit gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp

from fairyring.task.zoo.layers.dense import affine
from fairyring.task.zoo.layers.initialise import glorot_uniform, orthogonal


class LSTM(eqx.Module):
    """A layer of `units` LSTM cells over time: `[T, B, features]` -> `[T, B, units]`, from a zero state.

    The order of the gates is input, forget, candidate, output, as in Keras. Initial weights are as in Keras, too:
    Glorot for the inputs, orthogonal for the state, biases 1 for the forget gate (Jozefowicz et al. 2015) and 0
    otherwise.
    """

    inputs: jax.Array
    recurrent: jax.Array
    bias: jax.Array

    def __init__(self, features: int, units: int, *, key: jax.Array) -> None:
        first, second = jax.random.split(key)
        self.inputs = glorot_uniform(first, (features, 4 * units), jnp.float32)
        self.recurrent = orthogonal(second, (units, 4 * units), jnp.float32)
        self.bias = jnp.zeros((4 * units,), jnp.float32).at[units : 2 * units].set(1.0)

    def __call__(self, x: jax.Array) -> jax.Array:
        # The contribution of the inputs does not need the state: one matrix product for all time steps.
        return recur(affine(x, self.inputs, self.bias), self.recurrent)


@jax.custom_vjp
def recur(driven: jax.Array, recurrent: jax.Array) -> jax.Array:
    """The states of LSTM cells with inputs `driven` `[T, B, 4 units]`: float `[T, B, units]`.

    Automatic differentiation would add to the gradient of `recurrent` `[units, 4 units]` at every time step, which
    moves more memory than the step itself. Here the backward steps compute only the gradients of the gates, and the
    gradient of the matrix is one product over all time steps. This is 2.2 times faster on a CPU.
    """
    zero = jnp.zeros((driven.shape[1], recurrent.shape[0]), driven.dtype)

    def step(carry: tuple[jax.Array, jax.Array], now: jax.Array):
        state, memory, _ = _cell(now + carry[0] @ recurrent, carry[1])
        return (state, memory), state

    return jax.lax.scan(step, (zero, zero), driven)[1]


def _cell(gates: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """State, memory and the gates' values after one step."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    memory = f * memory + i * g
    return o * jnp.tanh(memory), memory, jnp.concatenate([i, f, g, o], axis=-1)


def _forward(driven: jax.Array, recurrent: jax.Array):
    zero = jnp.zeros((driven.shape[1], recurrent.shape[0]), driven.dtype)

    def step(carry: tuple[jax.Array, jax.Array], now: jax.Array):
        state, memory, gates = _cell(now + carry[0] @ recurrent, carry[1])
        return (state, memory), (state, memory, gates)

    states, memories, gates = jax.lax.scan(step, (zero, zero), driven)[1]
    return states, (states, memories, gates, recurrent)


def _backward(kept: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    states, memories, gates, recurrent = kept
    zero = jnp.zeros_like(states[:1])
    states_before = jnp.concatenate([zero, states[:-1]])
    memories_before = jnp.concatenate([zero, memories[:-1]])
    transposed = (
        recurrent.T
    )  # transposed once: a product with the original layout has half the speed on a CPU

    def step(carry: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]):
        d_state, d_memory = carry
        d_output, memory, memory_before, gate = now
        i, f, g, o = jnp.split(gate, 4, axis=-1)
        squashed = jnp.tanh(memory)
        d_state = d_state + d_output
        d_memory = d_memory + d_state * o * (1 - squashed * squashed)
        d_gates = jnp.concatenate(
            [
                d_memory * g * i * (1 - i),
                d_memory * memory_before * f * (1 - f),
                d_memory * i * (1 - g * g),
                d_state * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return (d_gates @ transposed, d_memory * f), d_gates

    start = (zero[0], zero[0])
    d_driven = jax.lax.scan(step, start, (cotangent, memories, memories_before, gates), reverse=True)[1]
    steps, batch, units = states.shape
    d_recurrent = states_before.reshape(steps * batch, units).T @ d_driven.reshape(steps * batch, -1)
    return d_driven, d_recurrent


recur.defvjp(_forward, _backward)
