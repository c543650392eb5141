"""Which row groups are read, kept and dropped, without any file."""

import threading

import numpy as np
import pytest

from fairyring.population.parquet.row_groups import RowGroups

SIZE = 8


class Storage:
    """Row groups of one row each; what is read is noted, and waits where it is told to."""

    def __init__(self, room: int, threads: int = 1, count: int = 20) -> None:
        self.read: list[int] = []
        self.failing: set[int] = set()
        self.go = threading.Event()
        self.go.set()
        self.groups = RowGroups(self._read, np.full(count, SIZE), room * SIZE, threads)

    def _read(self, number: int) -> dict[str, np.ndarray]:
        self.read.append(number)
        assert self.go.wait(10)
        if number in self.failing:
            raise OSError(f"{number} cannot be read")
        return {"x": np.array([number])}

    def ask(self, *numbers: int) -> None:
        """Ask for these, one after the other."""
        for number, rows in self.groups.each(list(numbers)):
            assert rows["x"].tolist() == [number]

    def settled(self) -> list[int]:
        """What was read, once all has been that is to be."""
        for entry in list(self.groups._entries.values()):
            entry.exception(10)
        return self.read


def test_what_is_expected_is_read_ahead_as_far_as_there_is_room() -> None:
    storage = Storage(room=3)
    storage.groups.expect([4, 5, 6, 7, 8])
    assert storage.settled() == [4, 5, 6]
    storage.ask(4, 5)
    assert storage.settled() == [4, 5, 6, 7]  # in the place of 4
    storage.ask(6, 7, 8)
    assert storage.settled() == [4, 5, 6, 7, 8]  # each once
    assert storage.groups.peak == 3 * SIZE


def test_what_was_used_last_is_kept() -> None:
    storage = Storage(room=3)
    storage.ask(1, 2, 3, 1, 4)
    storage.read.clear()
    storage.ask(1, 4)
    assert storage.settled() == []
    storage.ask(2)
    assert storage.settled() == [2]


def test_what_is_asked_for_goes_before_what_is_expected() -> None:
    storage = Storage(room=2, threads=2)
    storage.groups.expect([4, 5, 6])
    storage.settled()
    storage.ask(9)
    assert 9 in storage.settled()
    storage.ask(4, 5, 6)
    assert storage.groups.peak == 2 * SIZE


def test_it_waits_for_room_rather_than_to_hold_more() -> None:
    storage = Storage(room=2, threads=2)
    storage.go.clear()
    storage.groups.expect([4, 5])
    asking = threading.Thread(target=storage.ask, args=(9,))
    asking.start()
    asking.join(0.05)
    assert (asking.is_alive(), storage.groups.held) == (True, 2 * SIZE)
    storage.go.set()
    asking.join(10)
    assert not asking.is_alive()
    assert storage.groups.peak == 2 * SIZE


def test_one_that_is_larger_than_the_room_is_there_alone() -> None:
    storage = Storage(room=0)
    storage.ask(1, 2, 1)
    assert storage.read == [1, 2, 1]
    assert storage.groups.peak == SIZE


def test_a_failure_is_raised_where_it_is_asked_for_and_not_kept() -> None:
    storage = Storage(room=5)
    storage.failing = {4, 5}
    storage.groups.expect([4, 5])
    storage.settled()
    with pytest.raises(OSError, match="4 cannot be read"):
        storage.ask(4)
    assert storage.read.count(4) == 2  # ahead, and when it was asked for
    storage.failing = set()
    storage.ask(4, 5)
    assert storage.groups.held == 2 * SIZE


def test_several_threads_ask_and_none_drops_what_another_waits_for() -> None:
    """Runs of a sweep share a population."""
    storage = Storage(room=2, threads=2, count=40)
    failed: list[BaseException] = []

    def ask(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(40).tolist()
        try:
            for _ in range(5):
                storage.ask(*order)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == []
    assert storage.groups.held <= 4 * SIZE  # one for each thread, if there is no room for so many
