# `make` alone prints this help. Every target sets up what it needs in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test unit check format serve bench clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## Train a small real model end to end and show its timeline
	$(BIN)/epochlog demo

# Two files of tests at a time, the long ones of tests/acceptance first: most of the time is waiting.
test: $(VENV)/.test  ## Run every test, the real training included
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

unit: $(VENV)/.check  ## Run only the pure tests (seconds)
	$(BIN)/pytest tests/unit

check: $(VENV)/.check  ## Formatting, lint, types, the import arrows and what deploy/ ships
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/*.Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/pytest tests/deploy

format: $(VENV)/.check  ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(VENV)/.demo  ## Start the service on this machine
	$(BIN)/epochlog serve

bench: $(VENV)/.bench  ## Measure beside floors and peers; ARGS="--quick --only callbacks"
	$(BIN)/python -m bench $(ARGS)

clean:  ## Remove the environment and the caches (never the state folder)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp stands for one set of extras; a change of pyproject.toml or the constraints renews it.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the service, the trainer and an S3 server (the first time takes a few minutes) ..."
	$(PIP) --editable '.[trainer,demo,otel]'
	@touch $@

$(VENV)/.check: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the service and the checks ..."
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the service and what it is measured beside ..."
	$(PIP) --editable '.[bench]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo $(VENV)/.check
	@touch $@
