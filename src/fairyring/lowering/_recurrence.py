"""Loops over time, with their matrix products taken out where time allows.

A recurrent layer multiplies its input and its state with matrices at every step. The products with the inputs need no
state: they are one product over all steps. And what automatic differentiation adds to the gradient of a matrix step by
step, which moves more memory than the step itself, is one product over all steps, too, once the backward steps have
found the gradients of the products.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from fairyring.lowering._placed import Placed, move, placed, plain

Apply = Callable[[core.JaxprEqn, Sequence[Any]], Any]  # the results of an equation, each perhaps `Placed`


class _Product(NamedTuple):
    """A product of a step with a matrix that is the same in all steps.

    Attributes:
        at: the place of its equation in the step.
        matrix: which of the loop's constants the matrix is.
        first: whether the matrix is the first operand.
        inner: the axes of matrix and other operand that are multiplied and summed.
        early: whether the other operand is an input of the step.
    """

    at: int
    matrix: int
    first: bool
    inner: tuple[int, int]
    early: bool


def has_products(eqn: core.JaxprEqn) -> bool:
    """Whether `recur` computes a `scan` faster."""
    closed, settings = eqn.params["jaxpr"], eqn.params
    if not any(_is_matrix(var.aval) for var in closed.jaxpr.invars[: settings["num_consts"]]):
        return False
    return bool(_products(_inlined(closed).jaxpr, settings))


def recur(eqn: core.JaxprEqn, operands: Sequence[Any], apply: Apply) -> list[Any]:
    """A `scan`, with its products taken out of the loop.

    Args:
        eqn: the equation.
        operands: its operands.
        apply: computes an equation of the step.
    """
    settings, step = eqn.params, _inlined(eqn.params["jaxpr"])
    fixed, carried = settings["num_consts"], settings["num_carry"]
    products = _products(step.jaxpr, settings)
    consts, init, xs = operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]
    early = [p for p in products if p.early]
    late = [p for p in products if not p.early]
    before = [_all_steps(step.jaxpr, p, consts[p.matrix], xs, fixed + carried) for p in early]
    matrices = [consts[p.matrix] for p in late]
    length, options = settings["length"], {name: settings[name] for name in ("length", "reverse", "unroll")}

    def loop(others: Any, matrices: Any, init: Any, xs: Any, before: Any, tags: Any) -> Any:
        # Transposed once, and not in every step.
        right = [w if p.inner[0] == 0 else w.T for p, w in zip(late, matrices, strict=True)]
        turned = [w.T if p.inner[0] == 0 else w for p, w in zip(late, matrices, strict=True)]

        def one(carry: Any, now: Any) -> Any:
            own, ready, tag = now
            values = {p.at: _in_place(y, p) for p, y in zip(early, ready, strict=True)}
            seen: list[Any] = []

            def product(at: int, x: jax.Array) -> Placed | jax.Array:
                one = next(i for i, p in enumerate(late) if p.at == at)
                x = x if late[one].inner[1] == 1 else x.T
                seen.append(x)
                return _in_place(_tagged(x, right[one], turned[one], tag[one]), late[one])

            out = _step(step, [*others, *carry, *own], values, product, late, apply)
            return out[:carried], (out[carried:], seen)

        carry, (ys, seen) = lax.scan(one, list(init), (list(xs), before, tags), **options)
        return [*carry, *ys], seen

    @jax.custom_vjp
    def whole(others: Any, matrices: Any, init: Any, xs: Any, before: Any) -> Any:
        return loop(others, matrices, init, xs, before, tags(matrices))[0]

    def tags(matrices: Any) -> list[jax.Array]:
        """Zeros, whose gradients are those of the products; nothing reads them."""
        rows = [step.jaxpr.eqns[p.at].outvars[0].aval.shape[1 if p.first else 0] for p in late]
        sizes = [w.shape[1 - p.inner[0]] for p, w in zip(late, matrices, strict=True)]
        return [jnp.zeros((length, n, size)) for n, size in zip(rows, sizes, strict=True)]

    def forward(others: Any, matrices: Any, init: Any, xs: Any, before: Any) -> Any:
        def varied(others: Any, init: Any, xs: Any, before: Any, tags: Any) -> Any:
            return loop(others, matrices, init, xs, before, tags)

        out, pull, seen = jax.vjp(varied, others, init, xs, before, tags(matrices), has_aux=True)
        return out, (pull, seen)

    def backward(kept: Any, g: Any) -> Any:
        pull, seen = kept
        d_others, d_init, d_xs, d_before, d_tags = pull(g)
        d_matrices = [
            _matrix_gradient(x.reshape(-1, x.shape[2]), d.reshape(-1, d.shape[2]), p.inner[0])
            for x, d, p in zip(seen, d_tags, late, strict=True)
        ]
        return d_others, d_matrices, d_init, d_xs, d_before

    whole.defvjp(forward, backward)
    unused = {p.matrix for p in products}
    others = [jnp.zeros(()) if i in unused else const for i, const in enumerate(consts)]
    return whole(others, matrices, list(init), list(xs), before)


@jax.custom_vjp
def _tagged(x: jax.Array, w: jax.Array, turned: jax.Array, tag: jax.Array) -> jax.Array:
    """`x @ w`, whose gradient goes to `x` and to `tag`. `turned` is `w.T`, transposed once for all steps."""
    return x @ w


_tagged.defvjp(lambda x, w, turned, tag: (x @ w, turned), lambda turned, g: (g @ turned, None, None, g))


def _in_place(y: jax.Array, product: _Product) -> Placed | jax.Array:
    """A product `[rows, out]` as the program has it."""
    return placed(y, [(1,), (0,)]) if product.first else y


def _matrix_gradient(x: jax.Array, g: jax.Array, inner: int) -> jax.Array:
    """The gradient of a matrix whose axis `inner` was summed with that of `x` `[n, in]`, from the product's `[n, out]`."""
    # A product of two matrices over their rows is twice as fast if the narrower comes first.
    first_in = x.shape[1] <= g.shape[1]
    d = x.T @ g if first_in else g.T @ x
    return d if first_in == (inner == 0) else move(d, (1, 0))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _times(x: jax.Array, w: jax.Array, inner: int) -> jax.Array:
    return x @ (w if inner == 0 else w.T)


_times.defvjp(
    lambda x, w, inner: (_times(x, w, inner), (x, w)),
    lambda inner, kept, g: (
        g @ (kept[1].T if inner == 0 else kept[1]),
        _matrix_gradient(kept[0], g, inner),
    ),
)


def _all_steps(
    jaxpr: core.Jaxpr, product: _Product, w: jax.Array, xs: Sequence[jax.Array], first: int
) -> jax.Array:
    """The product with the inputs of all steps: `[T, rows, out]`."""
    atom = jaxpr.eqns[product.at].invars[1 if product.first else 0]
    x = xs[jaxpr.invars.index(atom) - first]  # pyright: ignore[reportArgumentType]
    x = x if product.inner[1] == 1 else x.swapaxes(1, 2)
    y: Any = _times(x.reshape(-1, x.shape[2]), w, product.inner[0])
    return y.reshape(*x.shape[:2], -1)


def _inlined(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A program without calls of `jax.jit` in it."""

    def evaluate(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
        for eqn in jaxpr.eqns:
            given = [a.val if isinstance(a, core.Literal) else values[a] for a in eqn.invars]
            with eqn.ctx.manager:
                if eqn.primitive is primitives.jit_p:
                    out: Any = evaluate(eqn.params["jaxpr"].jaxpr, eqn.params["jaxpr"].consts, given)
                else:
                    out = eqn.primitive.bind(*given, **eqn.primitive.get_bind_params(eqn.params))
            values.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
        return [a.val if isinstance(a, core.Literal) else values[a] for a in jaxpr.outvars]

    if all(eqn.primitive is not primitives.jit_p for eqn in closed.jaxpr.eqns):
        return closed
    return jax.make_jaxpr(lambda *args: evaluate(closed.jaxpr, closed.consts, args))(
        *(jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in closed.in_avals)
    )


def _products(jaxpr: core.Jaxpr, settings: dict[str, Any]) -> list[_Product]:
    """The products of a step with those of its constants that it uses for nothing else."""
    fixed, carried = settings["num_consts"], settings["num_carry"]
    matrices = {var: i for i, var in enumerate(jaxpr.invars[:fixed]) if _is_matrix(var.aval)}
    inputs = set(jaxpr.invars[fixed + carried :])
    found: list[_Product] = []
    spoilt = {matrices[v] for v in jaxpr.outvars if isinstance(v, core.Var) and v in matrices}
    for index, eqn in enumerate(jaxpr.eqns):
        used = [matrices.get(a) if isinstance(a, core.Var) else None for a in eqn.invars]
        if all(one is None for one in used):
            continue
        product = _product(index, eqn, used, inputs)
        if product is None:
            spoilt |= {one for one in used if one is not None}
        else:
            found.append(product)
    return [p for p in found if p.matrix not in spoilt]


def _product(
    index: int, eqn: core.JaxprEqn, used: list[int | None], inputs: set[core.Var]
) -> _Product | None:
    if eqn.primitive is not primitives.dot_general_p or eqn.params["precision"] is not None:
        return None
    (one, two), batch = eqn.params["dimension_numbers"]
    if any(batch) or len(one) != 1 or sum(u is not None for u in used) != 1:
        return None
    first = used[0] is not None
    other = eqn.invars[1 if first else 0]
    if not isinstance(other, core.Var) or not _is_matrix(other.aval) or not _is_matrix(eqn.outvars[0].aval):
        return None
    matrix = used[0] if first else used[1]
    assert matrix is not None
    inner = (one[0], two[0]) if first else (two[0], one[0])
    return _Product(index, matrix, first, inner, other in inputs)


def _is_matrix(aval: Any) -> bool:
    return len(aval.shape) == 2 and aval.dtype == jnp.float32


def _step(
    step: core.ClosedJaxpr,
    args: Sequence[Any],
    ready: dict[int, Any],
    product: Callable[[int, jax.Array], Any],
    late: Sequence[_Product],
    apply: Apply,
) -> list[jax.Array]:
    """One step, given the products that are ready, by the index of their equations."""
    jaxpr = step.jaxpr
    values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*step.consts, *args), strict=True))
    others = {p.at: 1 if p.first else 0 for p in late}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for index, eqn in enumerate(jaxpr.eqns):
        if index in ready:
            out: Any = ready[index]
        elif index in others:
            out = product(index, plain(read(eqn.invars[others[index]])))
        else:
            with eqn.ctx.manager:
                out = apply(eqn, [read(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return [plain(read(atom)) for atom in jaxpr.outvars]
