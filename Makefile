# Everything a newcomer needs: `make demo`, `make test`. The rest is for maintainers.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# torch first and by its exact pin: a range would bring several GB of CUDA packages.
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Two workers, a file to a worker: fixtures that cost are made once, and two cores are busy.
PARALLEL := -n 2 --dist loadfile

.PHONY: help install demo test test-all lint types format bench docs gpu-check clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) -e '.[dev]'
	@touch $@

install: $(STAMP)  ## make .venv and install Remora with everything its tests need

demo: $(STAMP)  ## run the first experiment and say where its report lies
	@$(BIN)/remora bench quick

lint: $(STAMP)  ## ruff: style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict
	@$(BIN)/mypy

format: $(STAMP)  ## let ruff rewrite
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

test: lint types  ## lint, types and tests
	@$(BIN)/pytest -q $(PARALLEL) -m "not slow and not cuda"

test-all: lint types  ## the slow suites too
	@$(BIN)/pytest -q -m "not cuda"  # one after another: some of these measure

bench: $(STAMP)  ## measure our own cost and write docs/performance.md
	@$(BIN)/python -m benchmarks

docs: $(STAMP)  ## build the documentation
	@$(BIN)/sphinx-build -W -q -b html docs docs/_build/html && echo docs/_build/html/index.html

gpu-check:  ## every CUDA path, test and benchmark, as one table; says so where there is no CUDA
	@PYTHONPATH=src $$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) -m benchmarks.gpu_check

clean:  ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis docs/_build
