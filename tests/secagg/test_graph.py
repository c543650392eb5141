"""The neighbour graph: published parameters, and what every ring must be."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PlanError
from fairyring.secagg import GraphParameters, Terms, complete_graph, graph_parameters, session_graph
from fairyring.secagg.graph import COMPLETE_UP_TO, Ring
from tests.secagg.reference import complete

TABLE = json.loads((Path(__file__).parents[1] / "vectors" / "graph_parameters.json").read_text("utf-8"))
# Rates within the bound on their sum, so that only the search can refuse them.
RATES = [i / 100 for i in range(0, 46, 3)]


def sets(row: dict[str, Any]) -> tuple[int, float, float, str]:
    """A row's settings; without an adversary the rate is nothing."""
    none = row["adversary"] == "none"
    return (
        row["clients"],
        0.0 if none else row["adversarial_rate"],
        row["dropout_rate"],
        "semi_honest" if none else row["adversary"],
    )


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: "-".join(str(v) for v in row.values()))
def test_published_parameters_are_met(row: dict[str, Any]) -> None:
    if row["degree"] == 0:
        with pytest.raises(PlanError):
            graph_parameters(*sets(row))
        return
    result = graph_parameters(*sets(row))
    assert result.degree == row["degree"]
    assert 2 <= result.threshold <= row["threshold"]


def test_the_table_is_whole() -> None:
    assert len(TABLE["rows"]) == 52
    assert {row["adversary"] for row in TABLE["rows"]} == {"semi_honest", "semi_malicious", "none"}
    assert any(row["degree"] == 0 for row in TABLE["rows"])


def named(error: PlanError) -> tuple[float, float]:
    """The rates an error says would work."""
    result = re.search(r"adversarial_rate=([0-9.e-]+) and dropout_rate=([0-9.e-]+?)[.;]?(\s|$)", error.do)
    assert result is not None, error.do
    return float(result[1]), float(result[2])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 300),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.sampled_from(["semi_honest", "semi_malicious"]),
)
def test_an_infeasible_request_names_rates_that_are_feasible(
    clients: int, adversarial: float, dropout: float, threat: Any
) -> None:
    for choose in (graph_parameters, complete_graph):
        error = result = None
        try:
            result = choose(clients, adversarial, dropout, threat)
        except PlanError as refused:
            error = refused
        if result is not None:
            assert 2 <= result.threshold <= result.degree < clients
        elif error is not None and "rate=" in error.do:
            nearest = named(error)
            assert nearest[0] <= adversarial
            assert nearest[1] <= dropout
            choose(clients, *nearest, threat)
        else:
            assert error is not None
            assert "more devices" in error.do
            with pytest.raises(PlanError):
                choose(clients, 0.0, 0.0, threat)


@pytest.mark.parametrize(
    ("clients", "adversarial", "dropout", "threat"),
    [
        (100, 0.1, 0.85, "semi_honest"),
        (100, 0.3, 0.35, "semi_malicious"),
        (1000, 0.45, 0.44, "semi_malicious"),
        (5, 0.4, 0.4, "semi_honest"),
        (5, 0.4, 0.2, "semi_malicious"),
        (7, 0.3, 0.3, "semi_malicious"),
    ],
)
def test_what_an_infeasible_session_names_is_feasible(
    clients: int, adversarial: float, dropout: float, threat: Any
) -> None:
    with pytest.raises(PlanError) as caught:
        session_graph(clients, adversarial, dropout, threat)
    nearest = named(caught.value)
    session_graph(clients, *nearest, threat)
    assert nearest != (0.0, 0.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"clients": 1},
        {"clients": True},
        {"clients": 10.0},
        {"adversarial_rate": -0.1},
        {"adversarial_rate": 1.0},
        {"dropout_rate": float("nan")},
        {"dropout_rate": "0.1"},
        {"adversary": "malicious"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "clients": 10,
        "adversarial_rate": 0.1,
        "dropout_rate": 0.1,
        "adversary": "semi_honest",
    }
    assert complete_graph(**good) == GraphParameters(9, 2)
    with pytest.raises(PlanError):
        complete_graph(**good | bad)
    with pytest.raises(PlanError):
        graph_parameters(**good | bad)


@pytest.mark.parametrize("threat", ["semi_honest", "semi_malicious"])
@pytest.mark.parametrize("clients", range(3, COMPLETE_UP_TO + 1, 3))
def test_small_sessions_have_the_complete_graph(clients: int, threat: Any) -> None:
    result = session_graph(clients, 0.1, 0.05, threat)
    assert result == complete(clients, 0.1, threat)
    adversaries = clients // 10
    assert result.threshold > adversaries
    if threat == "semi_malicious":
        # Two sets of survivors cannot both gather a threshold: adversaries count for both, the others for one.
        assert 2 * (result.threshold - adversaries) > result.degree - adversaries


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 70), st.integers(0, 1 << 32), st.data())
def test_the_ring_is_a_symmetric_graph_and_places_are_its_inverse(
    devices: int, seed: int, data: st.DataObject
) -> None:
    even = st.integers(1, (devices - 1) // 2).map(lambda k: 2 * k) if devices > 2 else st.nothing()
    degree = data.draw(st.one_of(even, st.just(devices - 1)))
    adverts = [hashlib.sha256(f"{seed} {i}".encode()).digest() for i in range(devices)]
    ring = Ring(hashlib.sha256(adverts[0]).digest(), b"", adverts, degree)
    near = [ring.neighbours(i) for i in range(devices)]
    for i in range(devices):
        assert len(near[i]) == len(set(near[i])) == degree
        assert i not in near[i]
        for place, other in enumerate(near[i], start=1):
            assert i in near[other]
            assert ring.place(other, i) == place
            assert near[other][ring.place(i, other) - 1] == i


def test_who_is_beside_whom_changes_with_the_roster_and_the_beacon() -> None:
    adverts = [hashlib.sha256(bytes([i])).digest() for i in range(80)]
    rings = [Ring(root, beacon, adverts, 10) for root in (b"a" * 32, b"b" * 32) for beacon in (b"", b"x")]
    assert len({tuple(ring.neighbours(0)) for ring in rings}) == 4


@pytest.mark.parametrize(
    "bad",
    [
        {"length": 0},
        {"length": True},
        {"modulus_bits": 15},
        {"modulus_bits": 65},
        {"minimum_cohort": 2},
        {"minimum_cohort": 9},
        {"maximum_cohort": 2},
        {"adversarial_rate": 0.9},
    ],
    ids=str,
)
def test_terms_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "plan": bytes(32),
        "length": 4,
        "modulus_bits": 16,
        "minimum_cohort": 3,
        "maximum_cohort": 8,
    }
    Terms(**good)
    with pytest.raises(PlanError):
        Terms(**good | bad)


def test_a_share_of_the_devices_is_counted_as_people_count() -> None:
    # 0.29 * 100 is 28.999999999999996 in floats.
    assert complete_graph(100, 0.29, 0.0).threshold == 30
    assert graph_parameters(100, 0.29, 0.1) == graph_parameters(100, 0.2900001, 0.1)
