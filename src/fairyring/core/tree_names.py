"""What the leaves of a pytree are called."""

from typing import Any

import jax


def names_of(tree: Any) -> list[list[str]]:
    """The names on the way to each leaf."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [[_name(entry) for entry in path] or ["parameters"] for path, _ in paths]


def joined(names: list[list[str]]) -> list[str]:
    """A name for each leaf, with dots between its parts; with slashes where dots would give two the same."""
    for separator in (".", "/", "//"):
        found = [separator.join(path) for path in names]
        if len(set(found)) == len(found):
            return found
    return [f"{place}/{name}" for place, name in enumerate(found)]


def _name(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)
