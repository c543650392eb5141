"""Evolved populations that come with the package."""

from fairyring.ecology.zoo.exhibits import Exhibit, exhibit, make_zoo, names

__all__ = [
    "Exhibit",
    "exhibit",
    "make_zoo",
    "names",
]
