import inspect
import pickle

import pytest

from fairyring.core import errors


def test_the_tree_at_the_top_of_the_file_is_the_tree():
    drawn = {
        line.split()[0]
        for line in errors.__doc__.replace("├──", "").replace("└──", "").replace("│", "").splitlines()
        if line.strip() and line.split()[0].isidentifier()
    }
    real = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert real <= drawn


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(errors.PlanError, ValueError), (errors.PopulationError, ValueError), (errors.ModelError, ValueError),
     (errors.TrainingDiverged, ArithmeticError)],
)  # fmt: skip
def test_errors_say_what_was_given_expected_and_what_to_do(kind, builtin):
    error = kind("cohort", given=0, expected="at least 1", do="Set cohort=1.")
    assert isinstance(error, builtin)
    assert str(error) == "cohort: given 0; expected at least 1. Set cohort=1."


def test_a_missing_extra_is_named():
    error = errors.MissingExtra("flax", extra="flax", purpose="a Flax model")
    assert "pip install 'fairyring[flax]'" in str(error)


def test_unknown_names_get_the_nearest_known_one():
    with pytest.raises(errors.PlanError, match="Did you mean 'epochs'"):
        errors.refuse_unknown("LocalTraining", ["epoch"], ["epochs", "steps"])
    errors.refuse_unknown("LocalTraining", ["steps"], ["epochs", "steps"])


def test_an_error_is_the_same_in_another_process():
    raised = [
        errors.DataUnavailable("file", given=3, expected="a file", do="Look."),
        errors.MissingExtra("ray", extra="ray", purpose="a cluster"),
        errors.MessageRefused("round 1", given="a forgery", expected="a signature", do="Ignore it."),
    ]
    raised[0].add_note("in line 3")
    for error in raised:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
