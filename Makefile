# make demo    learn handwritten digits from 1,000 clients in private, audit that, and write runs/demo/report.html
# make test    every test but the examples, one part of every campaign, and a share of the cases that are dealt out
# make examples  every example, and the demo, as a reader runs them
# make soak    every part of every campaign too, compiled as for users: before a release
# make check   the quick part of the tests, before a commit
# make lint types docs processors bench clean

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(addprefix $(VENV)/.installed-,demo test dev)
NAME   ?=
# What `make check` runs: of every room the tests that compile little, and none that is marked slow.
QUICK  := tests/test_house.py \
          tests/core --ignore=tests/core/test_program.py --ignore=tests/core/test_vector.py \
          tests/statistics \
          tests/population \
          tests/task/test_losses.py tests/task/test_validation.py \
          tests/aggregation/test_wire.py tests/aggregation/test_refusals.py \
          tests/secagg --ignore=tests/secagg/test_complaints.py --ignore=tests/secagg/test_messages.py \
          tests/lowering/test_random.py \
          tests/ecology/world/test_settings.py tests/ecology/analysis/test_niches.py \
          tests/privacy/test_ledger.py tests/privacy/test_entropy.py \
          tests/learning/test_workload.py \
          tests/rounds/test_cohorts.py \
          tests/simulation/test_cautions.py tests/simulation/test_complaints.py \
          tests/audit/test_attack.py::test_an_audit_that_can_tell_nothing_is_refused_before_anything_runs \
          tests/report/kit tests/report/run/test_secure_sum.py tests/test_docs.py tests/test_benchmarks.py \
          tests/cli/test_commands.py tests/cli/test_data.py tests/cli/test_terminal.py
# What `make processors` runs.
FLOATS := tests/lowering/test_pass.py tests/learning/test_algorithms.py tests/aggregation/test_stages.py tests/ecology/world/test_step.py
ARGS   ?=

.PHONY: demo test soak processors check lint format types docs examples bench constraints clean

demo: $(VENV)/.installed-demo
	$(BIN)/fairyring demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal --ignore=tests/test_examples.py $(ARGS)

soak: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal --soak --optimised $(ARGS)

# What would fail on another processor: float32 sums, and bits within one, with the fewest instructions there are.
processors: $(VENV)/.installed-test
	XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 $(BIN)/python -m pytest -n auto $(FLOATS) $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist worksteal -q -x -m "not slow" $(QUICK) $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -j auto -T -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

examples: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal tests/test_examples.py $(ARGS)

bench: $(VENV)/.installed-demo
	$(BIN)/fairyring bench $(NAME) $(ARGS)

# Each stamp says which extras are in the environment; one that needs more adds to it.
$(VENV)/.installed-demo: EXTRAS := data,device,export,privacy,report,service
$(VENV)/.installed-test: EXTRAS := data,device,export,flax,keras,live,mlflow,onnx,privacy,ray,report,service,sklearn,tensorboard,test,torch,video,wandb
$(VENV)/.installed-dev: EXTRAS := dev

$(STAMPS): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Pins everything for Python 3.11 on Linux, without naming a registry. Needs pip-tools in the environment.
constraints:
	$(BIN)/pip-compile --quiet --upgrade --all-extras --no-emit-index-url --no-emit-find-links --no-header \
	    --no-annotate --strip-extras --output-file constraints.txt pyproject.toml
	sed -i '/^fairyring @/d' constraints.txt

clean:
	rm -rf $(VENV) build dist docs/_build docs/jupyter_execute .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
