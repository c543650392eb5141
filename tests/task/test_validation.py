"""A population that does not fit a task raises an error before any round, which says what to do."""

import jax.numpy as jnp
import numpy as np
import pytest

from fairyring.core.errors import ModelError, PlanError, PopulationError
from fairyring.task import classification, multi_label, next_token, regression, zoo

ROWS, FEATURES, CLASSES = 12, 5, 3


def linear(outputs=CLASSES):
    return (lambda key: {"w": jnp.ones((FEATURES, outputs))}, lambda params, x: x @ params["w"])


def columns(**changes):
    rng = np.random.default_rng(0)
    base = {"x": rng.normal(size=(ROWS, FEATURES)).astype(np.float32), "y": np.arange(ROWS) % CLASSES}
    return {name: column for name, column in (base | changes).items() if column is not None}


def put(column, row, value):
    column = np.array(column)
    column[row] = value
    return column


def test_values_that_keep_their_meaning_pass(people):
    rng = np.random.default_rng(0)
    for x in (
        rng.normal(size=(ROWS, FEATURES)),
        np.full((ROWS, FEATURES), 2**31 - 1),
        put(rng.normal(size=(ROWS, FEATURES)), (3, 1), 3e38),
        rng.random((ROWS, FEATURES)) ** 60,
        np.where(rng.random((ROWS, 1)) < 0.5, 0, rng.random((ROWS, FEATURES)) * 1e-300),
        np.where(rng.random((ROWS, FEATURES)) < 0.5, 0.3, 0.1 + 0.2),
        np.full((ROWS, FEATURES), 1.7e9),
    ):
        classification(linear()).validate(people(columns(x=x)))


def test_missing_values_that_the_task_fills_in_pass(people):
    population = people(columns(x=put(np.zeros((ROWS, FEATURES)), (6, 2), np.nan)))
    classification(linear(), prepare=jnp.nan_to_num).validate(population)
    with pytest.raises(PopulationError, match="a missing value"):
        classification(linear(), prepare=lambda x: x + 1).validate(population)


def test_a_function_that_is_no_metric_is_refused(people):
    def f1(true, predicted):
        raise ValueError("Found input variables\nwith inconsistent numbers")

    task = classification(linear(), metrics={"f1": f1})
    with pytest.raises(
        PlanError,
        match=r"metric 'f1': given a function that raises ValueError: Found input variables; .*jax.numpy",
    ):
        task.validate(people(columns()))


def test_good_data_pass_and_are_counted(people):
    found = classification(linear()).validate(people(columns(), [5, 0, 7]))
    assert (found.checked, found.total, found.complete) == (12, 12, True)
    assert "all 12 rows" in str(found)
    classification(linear(), classes=3).validate(people(columns(y=np.zeros(ROWS, bool))))
    classification(linear(), inputs="a", labels="b").validate(
        people({"a": columns()["x"], "b": columns()["y"]})
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y": None}, r"column 'y': given columns x; expected columns x, y"),
        ({"x": None}, "column 'x': given columns y"),
        (
            {"y": put(np.zeros(ROWS, int), 8, 3)},
            "given 3 in row 3 of client 'client-1'; expected labels from 0 to 2",
        ),
        ({"y": put(np.zeros(ROWS, int), 0, -1)}, "given -1 in row 0 of client 'client-0'"),
        ({"y": np.zeros(ROWS)}, "given float64; expected whole numbers"),
        ({"y": np.zeros((ROWS, CLASSES), int)}, r"rows of shape \(3,\).*multi_label"),
        ({"y": np.array(["a"] * ROWS)}, "expected numbers"),
        ({"x": np.array([["a"] * FEATURES] * ROWS)}, "expected numbers"),
        (
            {"weight": put(np.ones(ROWS), 6, -1.0)},
            "column 'weight': given -1.0 in row 1 of client 'client-1'",
        ),
        ({"weight": put(np.ones(ROWS), 6, np.nan)}, "given nan in row 1"),
        ({"weight": np.ones((ROWS, 1))}, "one weight per example"),
        (
            {"x": put(np.zeros((ROWS, FEATURES)), (6, 2), np.nan)},
            "column 'x': given a missing value .nan. in row 1 of client 'client-1'.*standardize",
        ),
        (
            {"x": put(np.zeros((ROWS, FEATURES), np.int64), (6, 2), 2**31)},
            "column 'x': given 2147483648 in row 1 of client 'client-1'; expected values from -2,147,483,648 to 2,147,483,647.*int32",
        ),
        ({"weight": np.full(ROWS, 2**32)}, "column 'weight': given 4294967296 in row 0"),
        ({"x": np.full((ROWS, FEATURES), 2**32, np.uint64)}, "0 to 4,294,967,295.*uint32"),
        ({"x": put(np.zeros((ROWS, FEATURES)), (0, 0), -1e39)}, r"given -1e\+39 in row 0.*float32"),
        (
            {"x": 1.7e9 + 10.0 * np.arange(ROWS * FEATURES).reshape(ROWS, FEATURES)},
            r"given 1700000000.0 and 1700000050.0, .*float32, in which they are computed, hardly tells them apart.*Subtract a constant",
        ),
        (
            {"x": np.column_stack([np.zeros((ROWS, FEATURES - 1)), 1.7e9 + np.arange(ROWS)])},
            "1700000000.0 and 1700000001.0",
        ),
        (
            {"x": np.full((ROWS, FEATURES), 1_700_000_000) + np.arange(ROWS)[:, None]},
            "hardly tells them apart",
        ),
    ],
)
def test_classification_refuses(changes, says, people):
    with pytest.raises(PopulationError, match=f"(?s){says}"):
        classification(linear()).validate(people(columns(**changes), [5, 7]))


@pytest.mark.parametrize(
    ("task", "changes", "says"),
    [
        (
            classification(zoo.two_nn(784, 8, 3)),
            {},
            r"examples of shape \(5,\), float32.*reshape them in `prepare`",
        ),
        (
            classification(linear()),
            {"x": np.ones((ROWS, 2, 2), np.uint8)},
            r"shape \(2, 2\), uint8.*receives float32",
        ),
        (
            classification(linear(), prepare=lambda x: x[:, :, None, None, 0, 0, 0]),
            {},
            "`prepare` itself fails",
        ),
        (classification(linear(), classes=4), {}, "given 3 outputs per example; expected 4"),
        (classification((linear()[0], lambda p, x: x @ p["w"][:, 0])), {}, r"shape \(B,\); expected logits"),
        (classification((linear()[0], lambda p, x: {"logits": x @ p["w"]})), {}, "not"),
        (
            classification((linear()[0], lambda p, x, key: x @ p["w"] if key is None else x @ p["w"][:, :2])),
            {},
            "one shape in training and another",
        ),
        (
            next_token(linear()),
            {"x": np.ones((ROWS, FEATURES), int)},
            r"expected logits of shape \(B, 5, vocabulary\)",
        ),
        (regression(linear(2)), {}, r"shape \(2,\) per example; expected shape \(\)"),
        (
            multi_label((linear()[0], lambda p, x: x @ p["w"][:, 0])),
            {},
            r"expected logits of shape \(B, labels\)",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(task, changes, says, people):
    if says == "not":
        says = "a structure"
    with pytest.raises(ModelError, match=f"(?s){says}"):
        task.validate(people(columns(**changes)))


def language(**kwargs):
    embed = (lambda key: {"e": jnp.ones((6, 6))}, lambda params, x: params["e"][x])
    return next_token(embed, **kwargs)


TOKENS = np.ones((ROWS, 4), np.uint8)


@pytest.mark.parametrize(
    ("task", "data", "says"),
    [
        (language(), {"x": TOKENS.astype(np.float32)}, "expected whole numbers"),
        (language(), {"x": TOKENS[:, :1]}, "T of at least 2"),
        (language(), {"x": TOKENS[:, 0]}, r"rows of shape \(\)"),
        (language(), {"x": put(TOKENS, (7, 2), 6)}, "given 6 in row 7 .* tokens from 0 to 5"),
        (language(labels="y"), {"x": TOKENS}, "column 'y'"),
        (language(labels="y"), {"x": TOKENS, "y": TOKENS[:, :2]}, r"expected shape \(4,\)"),
        (
            language(labels="y"),
            {"x": TOKENS, "y": put(TOKENS.astype(int), (0, 0), -1)},
            "column 'y': given -1",
        ),
    ],
)
def test_sequences_are_refused(task, data, says, people):
    with pytest.raises((PopulationError, ModelError), match=says):
        task.validate(people(data))


def test_selections_are_checked_in_all_rows_of_theirs_and_no_others(people):
    y = put(put(np.zeros(ROWS, int), 5, 9), 11, 9)
    population = people(columns(y=y), [5, 1, 6])
    keep = [2, 0]
    population.starts, population.sizes = population.starts[keep], population.sizes[keep]
    population.ids = population.ids[keep]
    with pytest.raises(PopulationError, match="given 9 in row 5 of client 'client-2'"):
        classification(linear()).validate(population)
    population.sizes[0] = 5
    assert classification(linear()).validate(population).checked == 10


def test_the_other_tasks_accept_and_refuse_values(people):
    y = np.zeros((ROWS, CLASSES), np.float32)
    multi_label(linear()).validate(people(columns(y=y)))
    with pytest.raises(PopulationError, match=r"given 2.0 in row 4 .* 0 or 1"):
        multi_label(linear()).validate(people(columns(y=put(y, (4, 1), 2))))
    with pytest.raises(PopulationError, match=r"expected shape \(3,\)"):
        multi_label(linear()).validate(people(columns(y=y[:, :2])))
    regression(linear()).validate(people(columns(y=y)))
    regression(linear(1)).validate(people(columns(y=y[:, 0])))
    language(labels="y").validate(people({"x": TOKENS, "y": TOKENS}))
    with pytest.raises(PopulationError, match="given nan in row 4"):
        regression(linear()).validate(people(columns(y=put(y, (4, 1), np.nan))))


def test_metrics_that_are_no_means_are_refused(people):
    with pytest.raises(PlanError, match=r"metric 'top'.*shapes \(\)"):
        classification(linear(), metrics={"top": lambda out, batch: out.max()}).validate(people(columns()))
    grouped = {"of": lambda out, batch: batch["group"] * 1.0}
    with pytest.raises(PlanError, match="reads column 'group'"):
        classification(linear(), metrics=grouped).validate(people(columns(group=np.ones(ROWS))))
    task = classification(linear(), metrics=grouped, columns=("group",))
    task.validate(people(columns(group=np.ones(ROWS))))


def test_what_a_batch_must_carry_depends_on_the_population(people):
    task = classification(linear())
    assert task.reads(people(columns())) == ("x", "y")
    assert task.reads(people(columns(weight=np.ones(ROWS), other=np.ones(ROWS)))) == ("x", "y", "weight")


def test_populations_loaded_by_a_function_are_sampled(people):
    population = people(columns(y=put(np.zeros(ROWS, int), 11, 7)), [1] * ROWS)
    loaded, population.stored = dict(population.columns), False
    del population.columns
    asked = []

    def client(i):
        asked.append(i)
        return {name: column[i : i + 1] for name, column in loaded.items()}

    population.client = client
    population.shape, population.dtype = (lambda n: loaded[n].shape[1:]), (lambda n: loaded[n].dtype)
    with pytest.raises(PopulationError, match="given 7 in row 0 of client 'client-11'"):
        classification(linear()).validate(population)
    assert asked == list(range(ROWS))
    assert classification(linear(8)).validate(population).checked == ROWS


def test_stored_populations_are_sampled_and_say_so(people, tmp_path):
    clients, each = 400, 10
    y = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.uint8, (clients * each,))
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (clients * each, FEATURES))
    found = classification(linear()).validate(people({"x": x, "y": y}, [each] * clients))
    assert (found.checked, found.total, found.complete) == (1280, 4000, False)
    assert "1,280 of 4,000" in str(found)
    y[-1] = 9  # the last client is always in the sample
    with pytest.raises(PopulationError, match="client-399"):
        classification(linear()).validate(people({"x": x, "y": y}, [each] * clients))


def test_tokens_in_bytes_are_not_taken_for_pixels(people):
    """Scaled to [0, 1] and made whole numbers again, all tokens but 255 would be 0."""
    table = (
        lambda key: {"w": jnp.ones((256, CLASSES))},
        lambda params, x: params["w"][x.astype(int)].mean(axis=1),
    )
    tokens = {"x": np.arange(ROWS * FEATURES, dtype=np.uint8).reshape(ROWS, FEATURES)}
    with pytest.raises(ModelError, match=r"bytes that `prepare` scales to \[0, 1\].*prepare=lambda x: x"):
        classification(table).validate(people(columns(**tokens)))
    classification(table, prepare=lambda x: x).validate(people(columns(**tokens)))
    classification(linear()).validate(people(columns(**tokens)))
