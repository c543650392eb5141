"""The stages of a plan as a program by themselves: for a client whose training is no program, such as a hospital's own.

It takes an update that was made elsewhere and gives the report: the second half of the device half, with the same functions.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.device import seal
from fairyring.learning.plan import Plan
from fairyring.learning.program import Argument, Program, exported


def encoding(plan: Plan) -> Program:
    """Export the stages of a plan, up to the vector that is summed.

    Returns:
        A program with these arguments, in order. `update`: float32 `[parameters]`, the trained parameters minus those that were received.
        `auxiliary`: float32 `[auxiliaries]`, the weight, the loss and the metrics as they travel (see `Measured`). `client_key` and
        `shared_key`: uint32 `[2]`. Its results are those of `fairyring.learning.program.program`, without a client's state.

    Raises:
        PlanError: the plan's algorithm sends or keeps more than an update of the model; or there is noise in local steps.
    """
    refuse_unless_updates(plan)
    sizes = (plan.update_layout.size, len(plan.auxiliaries))
    # The weight, and the loss with its own weight if it has one: see `device_half`.
    needed = 1 + (1 if plan.task.loss_weight_bound is None else 2)

    def encode(
        update: jax.Array, auxiliary: jax.Array, client_key: jax.Array, shared_key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        keys = map(jax.random.wrap_key_data, (client_key, shared_key))
        sealed = seal(plan.bound, update, auxiliary, auxiliary[:needed], *keys)
        return sealed.message.vector, sealed.message.auxiliary, sealed.finite

    kinds = [
        *(("update", (sizes[0],), jnp.float32), ("auxiliary", (sizes[1],), jnp.float32)),
        *(("client_key", (2,), jnp.uint32), ("shared_key", (2,), jnp.uint32)),
    ]
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in kinds]
    shapes = jax.eval_shape(encode, *arguments)
    names = ("vector", "side", "finite")
    returned = [(n, i, s) for i, (n, s) in enumerate(zip(names, shapes, strict=True)) if s.shape != (0,)]
    return Program(
        exported(lambda *values: tuple(encode(*values)[i] for _, i, _ in returned), arguments),
        tuple(Argument(name, shape, np.dtype(dtype)) for name, shape, dtype in kinds),
        tuple(Argument(name, shape.shape, np.dtype(shape.dtype)) for name, _, shape in returned),
    )


def refuse_unless_updates(plan: Plan) -> None:
    """Raise `PlanError` unless a client's report is an update of the model, its loss and its metrics."""
    algorithm, shapes = plan.algorithm, plan.params_shape
    more = {
        "an update of another form": algorithm.update is not None or plan.update_layout != plan.layout,
        "values of the algorithm's own": bool(algorithm.auxiliary),
        "a state on the client": bool(jax.tree.leaves(jax.eval_shape(algorithm.client_state, shapes))),
        "a state on the server": bool(jax.tree.leaves(jax.eval_shape(algorithm.server_state, shapes))),
        "noise in local steps": plan.example_stages is not None,
    }
    found = [what for what, there in more.items() if there]
    if found:
        raise PlanError(
            f"a participant with its own training in a plan with {algorithm.name}",
            given=" and ".join(found),
            expected="a plan whose clients send updates of the model, such as federated averaging",
            do="Leave algorithm= out, or let devices run the plan's own training.",
        )
