"""What clients remember, in memory and in files, is what was written last."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairyring.records.states import ClientStates
from fairyring.records.stored_states import StoredStates

CLIENTS = 6
FIRST = {"w": np.array([0.5, -1], np.float32), "n": np.zeros((), np.int32)}
cohorts = st.lists(st.integers(0, CLIENTS - 1), unique=True, max_size=CLIENTS).map(lambda c: np.array(c, int))


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "files"])
@given(writes=st.lists(st.tuples(cohorts, st.booleans()), max_size=6), read=cohorts)
def test_states_are_those_written_last(stored: bool, writes: list, read: np.ndarray) -> None:
    with TemporaryDirectory() as folder:
        states = StoredStates(CLIENTS, FIRST, Path(folder)) if stored else ClientStates(CLIENTS, FIRST)
        states.recover({"journal": 0, "journal_rows": 0}, 0)
        expected = {client: (FIRST["w"], FIRST["n"]) for client in range(CLIENTS)}
        for number, (clients, settle) in enumerate(writes, 1):
            new = {
                "w": np.arange(2 * CLIENTS, dtype=np.float32).reshape(CLIENTS, 2) + 100 * number,
                "n": np.arange(CLIENTS, dtype=np.int32) - number,
            }
            states.write(clients, new)  # more rows than clients: only the first ones count
            expected |= {c: (new["w"][i], new["n"][i]) for i, c in enumerate(clients.tolist())}
            if settle:
                states.flush()
                states.settle(number)
        got = states.read(read, CLIENTS + 1)
        filled = [
            *(expected[c] for c in read.tolist()),
            *[(FIRST["w"], FIRST["n"])] * (CLIENTS + 1 - len(read)),
        ]
        np.testing.assert_array_equal(got["w"], np.stack([w for w, _ in filled]))
        np.testing.assert_array_equal(got["n"], np.stack([n for _, n in filled]))
        assert all(leaf.ctypes.data % 64 == 0 for leaf in got.values())  # a core reads them in place


def test_states_in_files_take_no_memory_for_those_who_were_not_seen() -> None:
    with TemporaryDirectory() as folder:
        states = StoredStates(1_000_000, {"w": np.zeros(250_000, np.float32)}, Path(folder))
        states.recover({"journal": 0, "journal_rows": 0}, 0)
        states.write(np.array([999_999]), {"w": np.ones((1, 250_000), np.float32)})
        assert states.read(np.array([999_999]), 1)["w"].all()
        assert "_tables" not in vars(states)
