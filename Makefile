# Python 3.11 or newer, git and make are all that has to be on the machine; `make` alone lists the commands.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
NPM := $(BIN)/python hatch_build.py npm
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed
# A file's tests stay together and in their order: browser files come last, since Playwright keeps a loop in its worker.
BOTH_CORES := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help packages setup run fleet web test test-web test-python quick guard soak bench bench-all bench-cache bench-load-scaling bench-docker bench-report peers fmt lint types floors gen check lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

$(INSTALLED): requirements.lock pyproject.toml hatch_build.py
	@if [ -z "$(PYTHON)" ]; then echo "There is no Python 3.11 or newer on the PATH. Install one, or say PYTHON=/path/to/python3." >&2; exit 2; fi
	@echo "Making the Python environment in $(VENV) (once, and after a change of requirements.lock)"
	@if ! $(BIN)/python -c '' 2>/dev/null; then $(PYTHON) -m venv --clear $(VENV); fi
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

packages: $(INSTALLED)
	@$(BIN)/python hatch_build.py packages
	@$(BIN)/python -m tests.performance.programs

setup: packages ## the environment from the lock, the web packages, the git hooks
	@if [ "$${CI:-}" != true ] && git rev-parse --git-dir >/dev/null 2>&1; then git config core.hooksPath .ci/hooks; fi

web: $(INSTALLED)
	@$(BIN)/python hatch_build.py

run: $(INSTALLED) web ## set up what is missing, then serve on 127.0.0.1:8080
	@exec $(BIN)/tableforge serve

fleet: $(INSTALLED) web ## a whole fleet to try on 127.0.0.1:8080: make fleet FLEET="--instances 2", PORT=9000 make fleet
	@exec $(BIN)/tableforge fleet $(FLEET)

test: packages web test-web test-python ## set up what is missing, then every test, in a real browser too

test-web: packages
	@$(NPM) run --silent test

test-python: web
	@CHROMIUM="$$(.ci/chromium)" $(BIN)/python -m pytest $(BOTH_CORES)

quick: $(INSTALLED) ## unit, contract, machines and project tests: under 30 seconds
	@$(BIN)/python -m pytest $(BOTH_CORES) tests/unit tests/contract tests/machines tests/project

guard: $(INSTALLED) ## has a command's path become slower than tests/guard/baseline.json? make guard GUARD=--renew
	@$(BIN)/python -m tests.guard $(GUARD)

soak: web ## the long runs: fresh seeds, hundreds of kills
	@CHROMIUM="$$(.ci/chromium)" $(BIN)/python -m pytest --soak

bench: web ## every bench in one report, or one: make bench BENCH="websocket --users 1000"
	@$(BIN)/tableforge bench $(or $(BENCH),all)

bench-all: web ## every bench in one report: make bench-all QUICK=1 for the short form
	@$(BIN)/tableforge bench all $(if $(QUICK),--quick)

bench-cache: web ## what a hit costs, and what is hit, with its report
	@$(BIN)/tableforge bench cache --out bench-report/cache $(if $(QUICK),--quick)

bench-load-scaling: web ## one instance and two, and how players are spread, with the report
	@$(BIN)/tableforge bench scaling --out bench-report/scaling $(if $(QUICK),--quick)

# A copy of the tree, so that the environment of this machine stays what it is.
bench-docker: ## every bench in a container; without an engine: make bench-all
	@engine=; for name in docker podman; do \
		if "$$name" info >/dev/null 2>&1; then engine=$$name; break; fi; done; \
	if [ -z "$$engine" ]; then \
		echo "No container engine runs here: neither docker nor podman answers. Measure natively: make bench-all" >&2; exit 2; fi; \
	mkdir -p bench-report; \
	"$$engine" run --rm --volume "$(CURDIR):/source:ro" --volume "$(CURDIR)/bench-report:/report" python:3.13 sh -ec \
		'git clone -q /source /tree && cd /tree && make bench BENCH="all --out /report $(if $(QUICK),--quick)"'

bench-report: web ## print the targets of the last report, and write its page anew
	@$(BIN)/tableforge bench report

peers: $(INSTALLED) ## what `tableforge bench ... --against` measures against
	@$(BIN)/python -m tests.peers.install

fmt: packages ## format Python and TypeScript
	@$(BIN)/ruff format
	@$(BIN)/ruff check --select I --fix --quiet
	@$(NPM) exec -- prettier --write --log-level warn .

lint: packages ## ruff, and the formatting of TypeScript
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(NPM) exec -- prettier --check --log-level warn .

types: packages ## mypy --strict, svelte-check and tsc
	@$(BIN)/mypy
	@$(NPM) run --silent check

floors: $(INSTALLED) ## the import contracts
	@$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

gen: packages ## wire types for the client; settings, metrics and errors for docs/; pgbench's scripts
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m tests.performance.scripts

check: ## everything that a change must pass; the same in CI
	@.ci/run

lock: $(INSTALLED) ## resolve pyproject.toml anew into requirements.lock
	@$(PIP) install uv
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --no-header --python-version 3.11 \
		--group dev --extra fleet pyproject.toml --output-file requirements.lock

clean: ## remove what was built, not what was played
	@rm -rf $(VENV) .cache build dist web/node_modules tests/performance/node_modules tests/peers/node/node_modules tests/peers/python/.venv src/tableforge/web/static
