import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from fairyring.core.cores import POOL, available_cores, core_processors

pytestmark = [pytest.mark.optimised, pytest.mark.usefixtures("all_cores")]


def test_a_device_a_core_and_the_same_ones_again(monkeypatch):
    monkeypatch.setenv(POOL, "7")
    devices = core_processors(3)
    assert len(set(map(id, devices))) == 3
    assert core_processors(2) == devices[:2]
    assert os.environ[POOL] == "7"
    monkeypatch.delenv(POOL)
    assert core_processors(4)[:3] == devices
    assert POOL not in os.environ
    assert available_cores() >= 1


def test_each_processor_has_one_thread():
    """A large product on one processor keeps one core busy, however many cores there are."""
    program = """
import time, numpy as np, jax
from fairyring.core.cores import core_processors
processor = core_processors(2)[1]
x = jax.device_put(np.ones((1500, 1500), np.float32), processor)
product = jax.jit(lambda x: x @ x @ x)
product(x).block_until_ready()
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(8):
    product(x).block_until_ready()
print((time.process_time() - cpu) / (time.perf_counter() - wall))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


def test_the_rest_of_the_process_keeps_jaxs_devices():
    before = jax.devices()
    array = jax.device_put(np.ones(3, np.float32), core_processors(2)[1])
    assert jax.devices() == before
    assert array.device not in before
    assert (jax.numpy.ones(3) * 2).device in before
