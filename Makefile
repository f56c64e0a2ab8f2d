# Every target sets up what it needs first, in `.venv` and `target`, and nothing outside of them.
# Works with GNU make 3.81 and a POSIX shell.

PYTHON ?= python3
SHELL := /bin/sh

BIN := .venv/bin
RUST := $(shell find src -type f) Cargo.toml Cargo.lock

# What belongs to another environment must not leak into ours.
unexport PYTHONPATH PYTHONHOME CONDA_PREFIX
export VIRTUAL_ENV := $(CURDIR)/.venv
# The bindings are compiled against one interpreter, whoever starts cargo.
export PYO3_PYTHON := $(CURDIR)/.venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# More arguments for pytest.
export PYTEST

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-rust test-python test-pythons test-pooler torture mutants bench docs packages lint lint-rustfmt lint-clippy lint-clippy-core \
	lint-ruff lint-format lint-types lint-pyright lint-stubs fmt build install clean tools venv

help:
	@echo 'make demo    build, install into .venv, and show what polos does (under a minute)'
	@echo 'make test    build, install into .venv, and run all tests'
	@echo 'make test-quick  most tests, in under a minute once everything is compiled'
	@echo 'make test-pythons  the package on every supported Python of this machine'
	@echo 'make test-pooler   the tests that need PgBouncer'
	@echo 'make torture kill, stop and starve workers, and check what they leave (docs/reliability.md)'
	@echo 'make mutants plant bugs, and show that the tests catch each (half an hour)'
	@echo 'make soak    a quarter of an hour under load: nothing may grow (docs/reliability.md)'
	@echo 'make bench   measure it beside other schedulers (half an hour; ROW=herd for one row)'
	@echo 'make docs    the site, in target/site'
	@echo 'make packages   the source distribution and the wheel made from it, tried in an empty environment'
	@echo 'make lint    formatting, clippy, ruff, mypy, stubtest'
	@echo 'make fmt     format and fix what can be fixed by itself'
	@echo 'make build   an optimised wheel in dist/'
	@echo 'make clean   remove everything that was made here'
	@echo
	@echo 'PYTHON=python3.12 make test   with another Python, from 3.10'

# --- what people type ------------------------------------------------------------------------

demo: install
	@$(BIN)/polos demo

# Every part runs, also when one before it has failed; the end sums up what ran.
test: install
	@$(BIN)/python scripts/run-tests core sqlite postgres

# Without what starts many processes or servers: under a minute when everything is compiled.
test-quick: install
	@$(BIN)/python scripts/run-tests --quick

test-rust: install
	@$(BIN)/python scripts/run-tests core

test-python: install
	@$(BIN)/python scripts/run-tests sqlite postgres

# One wheel for the stable interface serves every Python. PYTHONS='3.12 3.14 -- tests/unit' says which
# versions and tests; POLOS_PYTHONS names interpreters that are neither on PATH nor in pyenv.
test-pythons: install
	@rm -rf target/pythons/wheels
	@said=$$($(BIN)/maturin build --locked --out target/pythons/wheels 2>&1) || \
		{ printf '%s\n' "$$said" >&2; exit 1; }
	@$(BIN)/python scripts/test-pythons $(PYTHONS)

# PgBouncer comes from the system (Debian: apt-get install pgbouncer), so it is no part of `make test`.
test-pooler: install
	@echo 'testing the core behind PgBouncer'
	@cargo test --quiet --locked --test it -- pooler --include-ignored

# TORTURE='F1 F7 --seed 3 --scale full' says which, and how much of it.
torture: install
	@$(BIN)/python tests/torture/run.py $(TORTURE)

# MUTANTS='NAME...' says which (tests/mutants/README.md).
mutants: install
	@$(BIN)/python tests/mutants/run.py $(MUTANTS)

# SOAK='--seconds 60 --rate 200' for a shorter and lighter one.
soak: install
	@$(BIN)/python tests/torture/soak.py $(SOAK)

# ROW='herd steps' says which rows, ROUNDS how often sides take turns, BENCH what else (benches/README.md).
bench: venv
	@$(BIN)/python benches/run.py $(ROW) $(if $(ROUNDS),--rounds $(ROUNDS)) $(BENCH)

# Strictly: a link or a reference that leads nowhere is an error.
docs: install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'target/site/index.html'

packages: venv
	@scripts/check-packages

lint: install
	@$(MAKE) --no-print-directory --keep-going lint-rustfmt lint-clippy lint-clippy-core \
		lint-ruff lint-format lint-types lint-pyright lint-stubs

lint-rustfmt: install
	@scripts/check-tools rustfmt
	cargo fmt --all --check

lint-clippy: install
	@scripts/check-tools clippy
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings

lint-clippy-core: install
	@scripts/check-tools clippy
	cargo clippy --quiet --locked --package polos --lib --no-default-features --features sqlite -- -D warnings
	cargo clippy --quiet --locked --package polos --lib --no-default-features --features postgres -- -D warnings

lint-ruff: install
	$(BIN)/ruff check

lint-format: install
	$(BIN)/ruff format --check

lint-types: install
	$(BIN)/mypy --strict

lint-pyright: install
	$(BIN)/basedpyright --pythonpath $(BIN)/python

lint-stubs: install
	$(BIN)/python -m mypy.stubtest polos._polos

fmt: install
	@scripts/check-tools rustfmt
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: venv
	@echo 'building an optimised wheel, some minutes the first time'
	@said=$$($(BIN)/maturin build --release --locked --out dist 2>&1) || \
		{ printf '%s\n' "$$said" >&2; exit 1; }
	@ls dist/*.whl

clean:
	rm -rf .venv dist target .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/polos/_polos*.so python/polos/_polos*.pyd
	find python tests examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what they need --------------------------------------------------------------------------

tools:
	@PYTHON='$(PYTHON)' scripts/check-tools

# Linters and the tools of the documentation are large, and only these targets need them.
GROUP := build
lint-ruff lint-format lint-types lint-pyright lint-stubs fmt docs packages: GROUP := checks

venv: tools
	@PYTHON='$(PYTHON)' scripts/make-venv $(GROUP)

install: export COMPILE := yes
install: venv .venv/.installed

# `maturin develop` compiles, installs the package in editable form and what it depends on.
.venv/.installed: .venv/.made-by pyproject.toml $(RUST)
	@echo 'building the extension, about two minutes the first time'
	@said=$$($(BIN)/maturin develop --locked 2>&1) || \
		{ printf '%s\n' "$$said" >&2; exit 1; }
	@touch $@

# Made by `scripts/make-venv`, which the target `venv` has run by the time it is asked for.
.venv/.made-by: ;
