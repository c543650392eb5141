"""Kernels that a step of World 1 takes in fairyring, as one line of JSON: `python ecology_kernels.py`."""

import json

import fairyring
from fairyring.ecology import World1, kernels_per_step


def main() -> None:
    """Count and print."""
    print(
        json.dumps(
            {"system": "fairyring", "version": fairyring.__version__, "kernels": kernels_per_step(World1())}
        )
    )


if __name__ == "__main__":
    main()
