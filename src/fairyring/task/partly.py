"""Models of which a part is trained: the rest is constant, does not travel, and is the same bits at the end."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import ModelError
from fairyring.core.tree_names import joined, names_of
from fairyring.task.model import Model, Params

Where = str | Sequence[str] | Callable[[str], bool]
"""Which parameters: a pattern of their names such as ``"head.*"``, several, or a function of a name."""


def train_only(model: Model, where: Where) -> Model:
    """A model of which only some parameters are trained.

    The parameters keep their structure, without what is frozen: nested dicts lack it, and modules have None there, as `eqx.partition` leaves
    them. `model.whole(params)` puts both together.

    Args:
        model: whose start is `init`. What is frozen is taken from `init` with the key 0, whatever the run's seed: pass a module, or functions
            that return trained weights.
        where: what is trained.

    Raises:
        ModelError: a pattern has no parameter, or nothing is left to be trained.
    """
    start = model.init(jax.random.key(0))
    names = joined(names_of(start))
    leaves, structure = jax.tree.flatten(start)
    trained = select(where, names, "where")
    frozen = [None if own else np.asarray(leaf) for own, leaf in zip(trained, leaves, strict=True)]

    def part(params: Params) -> Params:
        own = zip(trained, jax.tree.leaves(params), strict=True)
        return _without_none(structure.unflatten([leaf if train else None for train, leaf in own]))

    def whole(params: Params) -> Params:
        own = iter(jax.tree.leaves(params))
        return structure.unflatten([next(own) if leaf is None else leaf for leaf in frozen])

    return _reparameterised(model, lambda key: part(model.init(key)), whole)


def lora(
    model: Any,
    rank: int = 8,
    *,
    alpha: float | None = None,
    where: Where | None = None,
    train: Where | None = None,
) -> Model:
    """Low-rank adaptation (Hu et al., 2022, https://arxiv.org/abs/2106.09685): of each matrix only a change of low rank is trained.

    A matrix `W` of shape `[m, n]` becomes `W + alpha / rank * b @ a`, with `b` `[m, rank]`, zero at first, and `a` `[rank, n]`, normal with
    variance `1/n`. So training starts from the model as it is. `W` and all other parameters are frozen: they do not travel, and only `a` and `b` are
    clipped, compressed, masked and given noise. The parameters are a dict by the names of the matrices.

    It saves what is sent and what noise is added to, not arithmetic: the product is computed in each step.

    Args:
        model: any model that a task takes. What is frozen is taken from its start with the key 0: pass a trained module, or functions that
            return trained weights.
        rank: of the change; that of a matrix whose shorter side is less has this side as its rank.
        alpha: scale of the change; by default `rank`.
        where: which matrices; by default all parameters with two axes. Whatever else it names, such as a bias or the kernel of a
            convolution, stays frozen.
        train: further parameters that are trained as they are, such as ``"head.*"``. No change of low rank is added to them.

    Returns:
        A model for any task. `run.whole_params` has the changed matrices.

    Raises:
        ModelError: there is no such matrix, or `rank` is not a whole number.
    """
    from fairyring.task.adapters import as_model

    base = as_model(model)
    start = base.init(jax.random.key(0))
    names = joined(names_of(start))
    leaves, structure = jax.tree.flatten(start)
    own = select(train, names, "train") if train is not None else [False] * len(names)
    asked = select(where, names, "where") if where is not None else [True] * len(names)
    places = [i for i, leaf in enumerate(leaves) if asked[i] and not own[i] and leaf.ndim == 2 and leaf.size]
    if not places:
        raise ModelError(
            "lora, where",
            given="no matrix",
            expected=f"at least one parameter with two axes among {_listed(names)}",
            do="Choose some with where=.",
        )
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ModelError(
            "lora, rank", given=repr(rank), expected="a whole number of at least 1", do="Set rank=8."
        )
    ranks = {i: min(rank, *leaves[i].shape) for i in places}
    frozen = [None if full else np.asarray(leaf) for full, leaf in zip(own, leaves, strict=True)]
    scales = {i: 1.0 if alpha is None else alpha / ranks[i] for i in places}

    def init(key: jax.Array) -> Params:
        fresh = jax.tree.leaves(base.init(key)) if any(own) else leaves
        params: dict[str, Any] = {name: fresh[i] for i, name in enumerate(names) if own[i]}
        for i in places:
            rows, columns = leaves[i].shape
            a = jax.random.normal(jax.random.fold_in(key, i), (ranks[i], columns), jnp.float32)
            params[names[i]] = {"a": a / np.sqrt(columns), "b": jnp.zeros((rows, ranks[i]), jnp.float32)}
        return params

    def whole(params: Params) -> Params:
        full = [params[name] if leaf is None else leaf for name, leaf in zip(names, frozen, strict=True)]
        for i in places:
            change = params[names[i]]
            full[i] = full[i] + scales[i] * (change["b"] @ change["a"])
        return structure.unflatten(full)

    return _reparameterised(base, init, whole)


def _reparameterised(
    model: Model, init: Callable[[jax.Array], Params], whole: Callable[[Params], Params]
) -> Model:
    """A model with other parameters, of which `whole` makes those of `model`."""
    outer, native, into = model.whole, model.native, model.into
    return Model(
        init,
        lambda params, x, key=None: model.apply(whole(params), x, key),
        None if native is None else lambda params: native(whole(params)),
        None if into is None else lambda params, target, rounds: into(whole(params), target, rounds),
        whole if outer is None else lambda params: outer(whole(params)),
    )


def select(where: Where, names: list[str], what: str) -> list[bool]:
    """For each name whether it is meant.

    Raises:
        ModelError: a pattern is no name's, or none is meant.
    """
    if callable(where):
        chosen = [bool(where(name)) for name in names]
    else:
        patterns = (
            [where] if isinstance(where, str) else list(where) if isinstance(where, Sequence) else [where]
        )
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise ModelError(
                what,
                given=repr(where)[:80],
                expected="a pattern of names, several, or a function of a name",
                do='Write "head.*".',
            )
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ModelError(
                    what,
                    given=f"{pattern!r}, which is no parameter's name",
                    expected=f"patterns of names such as {_listed(names)}",
                    do='Write "head.*" for all whose names begin with head and a dot.',
                )
        chosen = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
    if not any(chosen):
        raise ModelError(
            what,
            given="no parameter",
            expected=f"one or more of {_listed(names)}",
            do="Choose some of these.",
        )
    return chosen


def _without_none(tree: Any) -> Any:
    """Nested dicts without the entries that hold nothing; other containers keep their None."""
    if type(tree) is not dict:
        return tree
    inner = {name: _without_none(value) for name, value in tree.items()}
    return {name: value for name, value in inner.items() if jax.tree.leaves(value)}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
