import os

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.learning.local import Workload

sizes = st.lists(st.integers(0, 300), min_size=1, max_size=40).filter(any)


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(1, 40), st.integers(1, 8))
def test_every_client_fits_its_shapes(sizes, batch_size, unroll):
    local = fr.LocalTraining(optax.sgd(0.1), batch_size=batch_size)
    load = Workload.of(np.array(sizes), local, unroll=unroll)
    real = [size for size in sizes if size]
    assert load.longest == max(real)
    assert load.smallest == min(real)
    assert 1 <= load.unroll <= max(1, unroll)
    assert len(load.tails) <= 4
    for size in real:
        left = size % batch_size
        assert left == 0 or any(left <= capacity <= batch_size for capacity in load.tails)
        assert not load.even or (size // batch_size) % load.unroll == 0
    assert load.orders[-1] == load.longest
    assert load.padding(np.array(sizes), local) >= 0


@settings(max_examples=50, deadline=None)
@given(sizes.filter(lambda s: len(s) > 3))
def test_few_capacities_waste_least(sizes):
    """The dynamic programme against trying every choice of one and of two capacities."""
    from itertools import combinations

    local = fr.LocalTraining(optax.sgd(0.1), batch_size=9)
    load = Workload.of(np.array(sizes), local)
    left = np.unique([s for s in sizes if s]) % 9
    left = left[left > 0]
    if not len(left):
        assert load.tails == ()
        return
    values = sorted(set(left.tolist()))

    def waste(capacities):
        return sum(min(c for c in capacities if c >= r) - r for r in left)

    k = len(load.tails)
    best = min(waste((*some, values[-1])) for some in combinations(values[:-1], k - 1))
    assert waste(load.tails) == best


def test_equal_clients_take_one_exact_tail():
    local = fr.LocalTraining(optax.sgd(0.1), batch_size=20)
    load = Workload.of(np.full(9, 50), local, unroll=8)
    assert (load.tails, load.unroll, load.even) == ((10,), 2, True)
    assert load.padding(np.full(9, 50), local) == 0


def test_little_is_padded_on_mnist_by_writer():
    """The real sizes of 539 writers, at the batch sizes of the benchmarks: one program, little waste."""
    if not os.environ.get("FAIRYRING_DATA"):
        pytest.skip("needs FAIRYRING_DATA")
    sizes = np.asarray(fr.load("mnist-writers").train.sizes)
    for batch_size, maximum in ((10, 0.02), (20, 0.02), (64, 0.08)):
        local = fr.LocalTraining(optax.sgd(0.1), batch_size=batch_size)
        load = Workload.of(sizes, local, unroll=8)
        assert load.padding(sizes, local) < maximum
        assert len(load.tails) <= 4
