"""Runs on clients that stay in Parquet files have the bits of runs in memory: streamed, resumed after the network failed, and shared among machines."""

import jax
import numpy as np
import pytest

import fairyring as fr
from fairyring.distributed import placement
from fairyring.population.parquet import storage
from fairyring.simulation import feed
from tests.distributed import test_worker as local
from tests.distributed.local_cluster import LocalMachines
from tests.population.fake_s3 import fake_s3

pytest.importorskip("pyarrow")


@pytest.fixture
def s3(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(storage, "PAUSES", (0.001,))
    with fake_s3() as server:
        server.put(
            local.PEOPLE.to_parquet(tmp_path / "data", row_group_bytes=200, file_bytes=700), "bucket/all"
        )
        yield server


@pytest.fixture
def people(s3) -> fr.Population:
    place = fr.S3Storage(endpoint=s3.endpoint, anonymous=True)
    return fr.Population.from_parquet("s3://bucket/all", "client", storage=place, cache_bytes=500)


@pytest.fixture
def streamed(monkeypatch) -> None:
    """Populations are as if they were large."""
    monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(placement, "REPLICATED_BYTES", 0)
    monkeypatch.setattr(placement, "BLOCK_BYTES", 500)


def test_a_run_has_the_same_bits_also_where_the_network_fails_meanwhile(
    s3, people, streamed, tmp_path
) -> None:
    floats = local.plan(aggregation=fr.chain())
    options = {"seed": 3, "test": local.TEST, "processors": 1}
    expected = fr.simulate(floats, local.PEOPLE, rounds=5, **options)
    local.same(expected, fr.simulate(floats, people, rounds=5, **options))

    def on_round(record: fr.RoundRecord) -> None:
        s3.down = record.round == 3

    folder = {"run": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(fr.DataUnavailable, match="2 attempts that failed"):
        fr.simulate(floats, people, rounds=5, **options, **folder, on_round=on_round)
    s3.down = False
    resumed = fr.simulate(floats, people, rounds=5, **options, **folder, resume=True)
    assert len(fr.load_run(tmp_path / "run").records) == 5
    jax.tree.map(np.testing.assert_array_equal, expected.params, resumed.params)


def test_machines_read_the_rows_of_their_own_clients_only(s3, people, streamed) -> None:
    machines = LocalMachines({"a": 1, "b": 1, "c": 1})
    expected = local.run(local.plan())
    there = fr.simulate(local.plan(), people, rounds=5, test=local.TEST, seed=3, engine=machines)
    local.same(expected, there)
    block_of = placement.stretches_of(people, people.names)
    assert block_of.max() > 2
    read = {name: one._reader.groups for name, one in machines.cluster.readers.items()}
    assert sum(groups.peak > 0 for groups in read.values()) > 1
    assert all(groups.peak <= max(500, groups._sizes.max()) for groups in read.values())


def test_a_split_and_a_standardised_population_stream_too(people, streamed) -> None:
    first, second = people.split_within(0.5, seed=0)
    ready = fr.summary_statistics(first).standardize()
    assert ready(first).reads_ahead
    run = fr.simulate(local.plan(cohort=4), ready(first), rounds=1, test=ready(second), processors=1)
    assert np.isfinite(run.records[-1].test.loss)
