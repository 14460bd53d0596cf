# Works with GNU make 3.81, the one macOS ships. The first target is the default.
.NOTPARALLEL:
.PHONY: demo test run lint typecheck format bench chaos docs lock

# `make demo CUDA=1` (run and bench too) uses MLX's CUDA libraries, in an environment of their own.
ifdef CUDA
VENV ?= .venv-cuda
LOCK := requirements-cuda.txt
else
VENV ?= .venv
LOCK := requirements.txt
endif
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet

# An environment that was moved, or whose Python has gone, counts as missing.
STALE := $(shell sh ops/environment.sh --check $(VENV) || rm -f $(RUN) $(DEV))

demo: $(RUN)
	$(BIN)/penstock demo

test: $(DEV)
	$(BIN)/python -m pytest -n 2 --maxschedchunk 1 --cov --cov-report=

run: $(RUN)
	$(BIN)/penstock up

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(BIN)/codespell
	$(BIN)/python -m ops.licences

typecheck: $(DEV)
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(RUN)
	$(BIN)/penstock bench

# One seed does the same again: make chaos CHAOS="--seed 7 killed".
chaos: $(DEV)
	$(BIN)/python -m tests.chaos $(CHAOS)

docs: $(DEV)
	$(BIN)/python -m ops.docs_build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file ops/mkdocs.yml

# Anew from pyproject.toml, keeping what still fits. Needs uv; nobody else does.
COMPILE := uv pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-header --no-strip-extras
lock:
	$(COMPILE) --extra mlx -o requirements.txt >/dev/null
	$(COMPILE) --extra mlx --group test --group quality --group docs -c requirements.txt \
		-o requirements-dev.txt >/dev/null
	$(COMPILE) --extra cuda -c requirements.txt -o requirements-cuda.txt >/dev/null

$(RUN): $(LOCK) pyproject.toml
	@sh ops/environment.sh $(VENV)
	@echo "Installing what Penstock needs to run (once; a minute or two) ..."
	@$(PIP) --require-hashes -r $(LOCK)
	@$(PIP) --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.txt pyproject.toml
	@sh ops/environment.sh $(VENV)
	@echo "Installing what Penstock's tests need (once; a minute or two) ..."
	@$(PIP) --require-hashes -r requirements-dev.txt
	@$(PIP) --no-deps --no-index --no-build-isolation --editable .
	@touch $@
