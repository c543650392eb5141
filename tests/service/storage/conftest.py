"""What a service keeps, on both kinds of database, under a clock that the test moves."""

from collections.abc import Callable, Iterator

import pytest
from argon2 import PasswordHasher

from fairyring.service.storage import Storage

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(url: str, clock: Clock) -> Iterator[Callable[[], Storage]]:
    """Opens the same database again and again, each time as another process would."""
    made: list[Storage] = []

    def open() -> Storage:
        made.append(Storage(url, now=clock, hasher=CHEAP).open())
        return made[-1]

    yield open
    for one in made:
        one.close()


@pytest.fixture
def kept(opened: Callable[[], Storage]) -> Storage:
    return opened()
