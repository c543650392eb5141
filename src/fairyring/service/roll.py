"""The clients of a run, as a service knows them: devices by their keys, and nothing of their examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Roll:
    """Devices, each with a place. New ones come at the end, and nobody's place changes.

    Args:
        keys: of the devices, in order.
        sizes: how many examples each has, where that is known.

    Attributes:
        keys: of the devices.
    """

    def __init__(self, keys: Sequence[bytes], sizes: Sequence[int] | None = None) -> None:
        self.keys = list(keys)
        self.known_sizes = sizes is not None
        self._sizes = list(sizes) if sizes is not None else [1] * len(self.keys)
        self._places = {key: place for place, key in enumerate(self.keys)}

    def add(self, keys: Sequence[bytes]) -> None:
        """Add those devices that are not there yet."""
        for key in keys:
            if key not in self._places:
                self._places[key] = len(self.keys)
                self.keys.append(key)
                self._sizes.append(1)

    def place(self, key: bytes) -> int:
        """The place of a device."""
        return self._places[key]

    @property
    def ids(self) -> np.ndarray:
        """The first digits of the keys."""
        return np.array([key.hex()[:16] for key in self.keys], dtype=str)

    @property
    def sizes(self) -> np.ndarray:
        """How many examples each device has; 1 where that is not known."""
        return np.array(self._sizes, np.int64)

    @property
    def attributes(self) -> Mapping[str, np.ndarray]:
        """None: a service knows nothing of what its devices hold."""
        return {}

    def __len__(self) -> int:
        return len(self.keys)

    def describe(self) -> dict[str, Any]:
        """In numbers, for a run's folder."""
        return {"clients": len(self), "examples": int(self.sizes.sum()) if self.known_sizes else None}
