# Every chore of the project; CI calls only these. `make help` lists them.
# Empty: the fastest Python >= 3.11 of this machine (scripts/choose_python.py). Or say which: make up PYTHON=python3.12
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help up down kafka-up kafka-down test bench lint format types drills lock clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

$(VENV)/ready: requirements.lock pyproject.toml
	@echo "Installing into ./$(VENV) (once, about a minute) …"
	@test -x $(BIN)/python || $(or $(PYTHON),$$(python3 scripts/choose_python.py)) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: $(VENV)/ready  ## start a whole shop (make up ARGS=--detach goes on in the background)
	@$(BIN)/doorbuster up $(ARGS)

down: $(VENV)/ready  ## stop it; the data stays
	@$(BIN)/doorbuster down $(ARGS)

test: $(VENV)/ready  ## lint, types, architecture rules, all tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pytest -n 2 --no-loadscope-reorder $(ARGS)

bench: $(VENV)/ready  ## measure: orders against pgbench, the event log, memory; writes BENCHMARKS*.md
	@$(BIN)/doorbuster bench $(ARGS)
	@$(BIN)/doorbuster bench --events

drills: $(VENV)/ready  ## replay the incidents
	@$(BIN)/doorbuster drill timedeal --before $(ARGS)
	@$(BIN)/doorbuster drill timedeal --chaos $(ARGS)
	@$(BIN)/doorbuster drill events $(ARGS)
	@$(BIN)/doorbuster drill psp --before $(ARGS)
	@$(BIN)/doorbuster drill psp --fault mixed $(ARGS)

kafka-up: $(VENV)/ready  ## start Kafka and Connect on 127.0.0.1 (needs Java 17 and Maven)
	@$(BIN)/python -m doorbuster.engines.embedded.kafka_alone up $(ARGS)

kafka-down: $(VENV)/ready  ## stop them; the data stays
	@$(BIN)/python -m doorbuster.engines.embedded.kafka_alone down $(ARGS)

lint: $(VENV)/ready  ## ruff and mypy only
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/ready  ## let ruff format and fix
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: $(VENV)/ready  ## pin all dependencies anew (needs uv)
	@uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock

clean:  ## remove the virtual environment and caches; never data
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
