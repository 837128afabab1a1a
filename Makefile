# Every target sets up what it needs: a virtual environment in .venv, and a local cluster where one is used.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(BIN)/.ready ## See the main job at work on a local cluster, about 6 minutes; KEEP=1 leaves it running; SCENARIO=FILE shows that one
	@PYTHONPATH=hack $(BIN)/python -m demo $(if $(KEEP),--keep) $(if $(SCENARIO),--scenario "$(SCENARIO)") $(ARGS)

.PHONY: quickstart
quickstart: $(BIN)/.ready ## Run the commands of the quick start on a local cluster, about 3 minutes
	@PYTHONPATH=hack $(BIN)/python -m transcript --show

.PHONY: transcript
transcript: $(BIN)/.ready ## The same, and write their output into docs/quickstart.md
	@PYTHONPATH=hack $(BIN)/python -m transcript

.PHONY: test
test: $(BIN)/.ready ## Run the tests, on a real API server and a real Prometheus
	@hack/cluster tools || echo "==> no local cluster can be had here: the tests that need one are skipped"
	$(BIN)/pytest -m "not full" $(ARGS)

.PHONY: test-all
test-all: $(BIN)/.ready tools ## Run the tests, with the long ones
	$(BIN)/pytest $(ARGS)

.PHONY: test-fast
test-fast: $(BIN)/.ready ## Run the tests that need no cluster
	$(BIN)/pytest -m "not cluster and not full and not slow" --numprocesses auto $(ARGS)

.PHONY: bench
bench: $(BIN)/.ready ## Print benchmark figures; ARGS="comparison" for one section, ARGS="-o json" for machines
	@OPENBLAS_NUM_THREADS=1 PYTHONPATH=hack $(BIN)/python -m bench $(ARGS)

.PHONY: check
check: $(BIN)/.ready ## Lint, types, layers, generated files, known weaknesses, docs; writes build/sbom.json
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m inferscale_operator.api.crds --check
	$(BIN)/python -m inferscale_operator.telemetry.reference --check
	$(BIN)/python hack/chartfiles.py --check
	$(BIN)/python hack/audit.py
	@$(MAKE) --no-print-directory docs

.PHONY: docs
docs: $(BIN)/.ready ## Build the documentation into build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

.PHONY: format
format: $(BIN)/.ready ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: generate
generate: $(BIN)/.ready ## Write crds/, the chart's copies, the generated pages and the output of commands in docs/ anew
	$(BIN)/python -m inferscale_operator.api.crds
	$(BIN)/python -m inferscale_operator.telemetry.reference
	PYTHONPATH=hack $(BIN)/python -m pages
	$(BIN)/python hack/chartfiles.py
	$(BIN)/python hack/installation.py

.PHONY: tools
tools: ## Get the programs of the local cluster: built once, into a cache of the user's
	@hack/cluster tools

.PHONY: lock
lock: ## Write the lock files anew from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --group dev --extra plot --python-version 3.11 \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" --constraints requirements.lock \
	  --output-file deploy/requirements.lock pyproject.toml
	echo hatchling | uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" --constraints requirements.lock \
	  --output-file deploy/requirements-build.lock -

.PHONY: clean
clean: ## Remove the virtual environment and caches (not the cache of cluster programs)
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage

$(BIN)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}: try `make PYTHON=python3.12 …`")'
	@echo "==> setting up .venv from requirements.lock (about a minute, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
