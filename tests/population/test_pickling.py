"""A population in another process: rows in memory are copied, files are mapped there again, functions are called there."""

import pickle

import numpy as np
import pytest

import fairyring as fr

COLUMNS = {"x": np.arange(12, dtype=np.float32).reshape(6, 2), "y": np.arange(6, dtype=np.int32)}


def stored() -> fr.Population:
    return fr.Population.from_arrays(
        COLUMNS, client=["b", "a", "b", "c", "a", "b"], attributes={"site": np.array(["n", "s", "n"])}
    )


def loaded(client: int) -> dict[str, np.ndarray]:
    return {"x": np.full((client + 1, 2), client, np.float32)}


@pytest.mark.parametrize("kind", ["memory", "files", "function", "view"])
def test_it_is_the_same_population(kind: str, tmp_path) -> None:
    population = fr.Population.from_function(3, loaded) if kind == "function" else stored()
    if kind == "files":
        population = fr.Population.open(population.save(tmp_path / "people"))
    if kind == "view":
        population = population.select([2, 0])
    content = pickle.dumps(population)
    there = pickle.loads(content)
    assert type(there) is type(population)
    assert (there.mapped, there.stored) == (kind == "files", kind != "function")
    assert there.fingerprint() == population.fingerprint()
    assert there.ids.tolist() == population.ids.tolist()
    assert {k: v.tolist() for k, v in there.attributes.items()} == {
        k: v.tolist() for k, v in population.attributes.items()
    }
    with pytest.raises(TypeError):
        there.attributes["site"] = 1
    for clients in ([0], [1, 0]):
        one, other = population.gather(clients), there.gather(clients)
        assert one[1].tolist() == other[1].tolist()
        assert all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
