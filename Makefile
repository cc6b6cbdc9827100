# As root on Debian 12 or 13 or Ubuntu 24.04, with make, git and apt and nothing else:
#   make lab    a three-node teaching cluster in containers on this machine
#   make test   every test, on such clusters
# What is missing is installed first; a second run finds it and goes straight on.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# Browsers and tools that belong to the tests are found there.
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/sbin:/sbin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Options for practicum lab, such as LAB="--name mine --nodes 4"
LAB ?=

.PHONY: help prepare prepare-lab prepare-test prepare-vm prepare-unit venv lab lab-down lab-info \
	check test test-unit test-lab test-vm test-bare browser requirements commands clean

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

lab: prepare-lab $(BIN)/.runtime ## A cluster in containers here; tells its hub and accounts
	@$(BIN)/practicum lab up $(LAB)

lab-info: $(BIN)/.runtime ## The hub, nodes and accounts of the lab again
	@$(BIN)/practicum lab info $(LAB)

lab-down: $(BIN)/.runtime ## Stop the lab and remove all of it
	@$(BIN)/practicum lab down $(LAB)

check: prepare-unit $(BIN)/.dev ## Style, types, layers and most unit tests: under a minute
	@.ci/check

test: test-unit test-lab ## Unit tests, then real clusters and a real browser

test-unit: prepare-unit $(BIN)/.dev
	@echo "==> unit tests"
	@$(BIN)/pytest -q --timeout 120 -n auto --maxprocesses 4 tests/unit

# Most of a lab test is waiting, so two processors keep two labs busy, each with whole files of
# tests. Whoever names a running lab has that one.
LABS ?= 2
test-lab: prepare-test browser
	@echo "==> tests on a lab"
	@$(BIN)/pytest -v -m "lab and not slow" --tb=native --durations 25 \
		$(if $(PRACTICUM_LAB),,-n $(LABS) --dist loadfile --no-loadscope-reorder) tests/lab

ifneq ($(wildcard tests/vm/test_*.py),)
# Which of them
VM ?= tests/vm
test-vm: prepare-vm $(BIN)/.dev ## Tests on virtual machines: cgroups, NFS, quotas, clocks
	@echo "==> tests on virtual machines"
	@$(BIN)/pytest -q -m vm --tb=short --durations 10 $(VM)
endif

# A bare machine's system (debian12, debian13, ubuntu24.04), and targets if not all
BARE ?= debian12
test-bare: prepare-lab $(BIN)/.runtime ## make lab and make test in a clone on a bare machine
	@$(BIN)/python .ci/bare $(BARE)

benchmark-%: prepare-test browser
	@$(BIN)/python benchmarks/$(subst -,_,$*).py
# Its file has another name, which would hide the package kernels
benchmark-kernels: benchmark-kernel-images
	@:

venv: $(BIN)/.dev ## The Python environment for working on the code

prepare: prepare-test prepare-vm browser ## Install everything that lab and tests need

prepare-lab:
	@.ci/prepare lab

prepare-test:
	@.ci/prepare test

prepare-vm:
	@.ci/prepare vm

prepare-unit:
	@.ci/prepare unit

requirements: $(BIN)/.dev ## Pin what pyproject.toml asks for, with hashes
	@.ci/requirements

commands: $(BIN)/.dev ## Write docs/commands.md from the help texts
	@$(BIN)/python -m practicum.manual > docs/commands.md

clean: ## Remove what was made here (not the labs)
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis test-output

$(BIN)/.venv:
	@.ci/prepare python
	@echo "==> making the Python environment .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "practicum needs Python 3.11 or later; this is " + sys.version.split()[0])'
	@$(PYTHON) -m venv .venv
	@touch $@

$(BIN)/.runtime: requirements/build.txt requirements/runtime.txt pyproject.toml | $(BIN)/.venv
	@echo "==> installing practicum into .venv"
	@$(PIP) install --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/.dev: requirements/dev.txt $(BIN)/.runtime
	@echo "==> installing the tools for tests into .venv"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

# Debian has a chromium; Ubuntu's is a snap, which does not run as root in a container, so there
# Playwright brings its own.
browser: $(BIN)/.dev
	@.ci/browser
