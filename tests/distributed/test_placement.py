"""Every client of a round is computed once, evenly where every machine has all rows; few blocks move as machines come and go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairyring.distributed.placement import owners_of, share

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=5, unique=True)


@given(NAMES, st.lists(st.integers(1, 40), min_size=1, max_size=60), st.data())
def test_every_client_is_computed_once(nodes: list[str], sizes: list[int], data: st.DataObject) -> None:
    clients = np.array(data.draw(st.lists(st.integers(0, len(sizes) - 1), unique=True)), np.int64)
    clients.sort()
    speeds = data.draw(st.lists(st.integers(1, 4), min_size=len(nodes), max_size=len(nodes)))
    block_of = np.sort(
        np.array(data.draw(st.lists(st.integers(0, 7), min_size=len(sizes), max_size=len(sizes))))
    )
    for blocks in (None, block_of):
        parts = share(clients, np.array(sizes), nodes, speeds, blocks)
        assert list(parts) == nodes
        found = np.concatenate(list(parts.values())) if parts else clients
        assert sorted(found.tolist()) == clients.tolist()
        if blocks is not None:
            owners = owners_of(8, nodes)
            assert all(owners[blocks[c]] == node for node, own in parts.items() for c in own)


def test_machines_with_more_processors_get_more() -> None:
    parts = share(np.arange(90), np.full(90, 10), ["a", "b"], [1, 2], None)
    assert {name: len(own) for name, own in parts.items()} == {"a": 30, "b": 60}


@pytest.mark.parametrize("machines", [1, 2, 5])
def test_a_machine_that_comes_or_goes_moves_only_its_own_blocks(machines: int) -> None:
    nodes = [f"node {i}" for i in range(machines)]
    before, after = owners_of(300, nodes), owners_of(300, [*nodes, "new"])
    moved = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert all(other == "new" for _, other in moved)
    assert 0.5 < len(moved) * (machines + 1) / 300 < 1.6
