# The two commands: `make demo` and `make test`. `make help` lists the rest.
#
#   PYTHON=python3.12 make test    another interpreter (3.10 or newer)
#   make demo KEEP=1               leave emulator and Airflow running until Ctrl-C
#   make test WORKERS=1 E2E_WORKERS=1 OLD_WORKERS=1   tests one after the other

PYTHON ?= python3
KEEP ?=
WORKERS ?= 7
# Each has an Airflow of its own, which takes a core while it starts, and waits for most of the time later.
E2E_WORKERS ?= 3
# One of them runs an Airflow, and it takes long.
OLD_WORKERS ?= 4

# Tests start hundreds of processes: each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# A Python newer than all files gets the newest one.
CONSTRAINTS := $(firstword $(wildcard constraints/constraints-$(VERSION).txt) \
                           $(lastword $(sort $(wildcard constraints/constraints-*.txt))))

# As variables and not as options, so that what pip builds packages with is pinned too.
PIP := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) PIP_DISABLE_PIP_VERSION_CHECK=1 \
       PIP_NO_INPUT=1 $(BIN)/python -m pip install --quiet

# The same for the oldest Airflow.
OLD := .venv-oldest
OLD_CONSTRAINTS := $(firstword $(wildcard constraints/oldest-$(VERSION).txt) \
                               $(lastword $(sort $(wildcard constraints/oldest-*.txt))))
OLD_PIP := PIP_CONSTRAINT=$(OLD_CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(OLD_CONSTRAINTS) PIP_DISABLE_PIP_VERSION_CHECK=1 \
           PIP_NO_INPUT=1 $(OLD)/bin/python -m pip install --quiet

# The same for the Airflow between the oldest and the newest.
MIDDLE := .venv-airflow-3.2
MIDDLE_CONSTRAINTS := $(firstword $(wildcard constraints/airflow-3.2-$(VERSION).txt) \
                                  $(lastword $(sort $(wildcard constraints/airflow-3.2-*.txt))))
MIDDLE_PIP := PIP_CONSTRAINT=$(MIDDLE_CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(MIDDLE_CONSTRAINTS) \
              PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(MIDDLE)/bin/python -m pip install --quiet

# The same for the benchmarks: the peer's clients ask for other versions than the tests use.
BENCH := .venv-bench
BENCH_CONSTRAINTS := $(firstword $(wildcard constraints/bench-$(VERSION).txt) \
                                 $(lastword $(sort $(wildcard constraints/bench-*.txt))))
BENCH_PIP := PIP_CONSTRAINT=$(BENCH_CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(BENCH_CONSTRAINTS) PIP_DISABLE_PIP_VERSION_CHECK=1 \
             PIP_NO_INPUT=1 $(BENCH)/bin/python -m pip install --quiet

# Files that say what has been done to the environment. The interpreter's version is part of the first one's name:
# another PYTHON makes another environment.
MADE := $(VENV)/.made-$(VERSION)
DEMO := $(VENV)/.demo
TEST := $(VENV)/.test
OLDEST := $(OLD)/.made-$(VERSION)
MADE_MIDDLE := $(MIDDLE)/.made-$(VERSION)
BENCHED := $(BENCH)/.made-$(VERSION)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint dist collect format in-process matrix newest unit conformance e2e chaos chaos-brief oldest middle bench venv constraints clean check-python

help:
	@echo 'make demo          a Batch job from a DAG, end to end, on this machine (KEEP=1 leaves it running)'
	@echo 'make test          everything: lint, types, import contracts, packages, unit, conformance and end-to-end tests, Airflow 3.1'
	@echo 'make lint          ruff, mypy --strict, the import contracts, the packages; make format rewrites the files'
	@echo 'make unit          unit tests only; likewise make conformance, make e2e, make oldest (Airflow 3.1, a part on 3.2)'
	@echo 'make chaos SEEDS=20   storms over real processes (docs/reliability.md); make chaos-brief, the short one of make test'
	@echo 'make matrix        unit and conformance tests under every Python of this machine, 3.10 to 3.14; make newest: one'
	@echo 'make bench         what waits cost, beside the AWS provider; 70 minutes on a machine that does nothing else'
	@echo 'make dist          sdist and wheel in $(DIST), checked by twine'
	@echo 'make venv          the environment for development in $(VENV)'
	@echo 'make constraints   resolve the pinned versions anew (PYTHONS="python3.10 python3.11 ...")'
	@echo 'make clean         remove $(VENV) and every cache'

demo: $(DEMO)
	@$(BIN)/python -m tests.support.demo $(if $(filter-out 0,$(KEEP)),--keep)

# Both environments are made at once: much of it is waiting. Then one process compiles the tests while lint keeps
# a core busy: else each process that runs them would do it. Unit and conformance tests run together for the same reason.
test: | check-python
	@$(MAKE) --no-print-directory --jobs 2 $(TEST) $(OLDEST) $(MADE_MIDDLE)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint collect
	@$(MAKE) --no-print-directory --jobs 1 in-process e2e chaos-brief oldest

lint: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(MAKE) --no-print-directory dist DIST="$$folder"

# The sdist, and from it the wheel. With the build backend of this environment, which is pinned: another environment for
# each of them would take a network.
DIST ?= dist
dist: $(TEST)
	rm -f $(DIST)/airflow_provider_tcbatch-*
	$(BIN)/python -m build --no-isolation --outdir $(DIST) .
	$(BIN)/python -m twine check --strict $(DIST)/airflow_provider_tcbatch-*

collect: $(TEST)
	@$(BIN)/python -m pytest --collect-only --quiet tests/unit tests/conformance tests/e2e tests/chaos >$(VENV)/collected || \
	  { cat $(VENV)/collected; exit 1; }

format: $(TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Most of these tests wait rather than compute: some at a time. A file's end-to-end tests share one Airflow.
unit conformance: $(TEST)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal tests/$@

in-process: $(TEST)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal tests/unit tests/conformance

# Under every Python of this machine, each in an environment of its own; the one of $(PYTHON) is that of all other
# targets. All of them are tried, whatever comes of one.
matrix: | check-python
	@failed=; \
	for python in $$($(PYTHON) -m tests.support.interpreters); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  test "$$version" = '$(VERSION)' && venv=.venv || venv=.venv-$$version; \
	  echo "Python $$version ($$python), in $$venv"; \
	  $(MAKE) --no-print-directory PYTHON=$$python VENV=$$venv in-process || failed="$$failed $$version"; \
	done; \
	test -z "$$failed" || { echo "Failed under Python$$failed" >&2; exit 1; }

# The same under one of them: the newest besides that of $(PYTHON) for which there is a file in constraints/.
newest: | check-python
	@python=$$($(PYTHON) -m tests.support.interpreters --newest-besides $(VERSION)); \
	test -n "$$python" || { echo 'There is no other Python on this machine that constraints/ has a file for'; exit 0; }; \
	version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	echo "Python $$version ($$python)"; \
	$(MAKE) --no-print-directory PYTHON=$$python VENV=.venv-$$version in-process

e2e: $(TEST)
	$(BIN)/python -m pytest --numprocesses $(E2E_WORKERS) --dist loadfile --no-loadscope-reorder tests/$@

# Bad weather (docs/reliability.md): a short storm with the tests of its parts, and whole ones, seeds FIRST to
# FIRST + SEEDS - 1. Each takes some 5 minutes; what each counted is a line of .chaos/results.
SEEDS ?= 20
FIRST ?= 1
chaos-brief: $(TEST)
	$(BIN)/python -m pytest -p no:cacheprovider tests/chaos

chaos: $(TEST)
	@mkdir -p .chaos
	CHAOS_SEEDS=$(SEEDS) CHAOS_FIRST=$(FIRST) CHAOS_RESULTS=.chaos/results $(BIN)/python -m pytest -p no:cacheprovider \
	  --basetemp .chaos/storms -s tests/chaos/test_chaos.py -k seed

# Tests have marks, @pytest.mark.oldest and @pytest.mark.middle. Files without one may need what these environments lack.
marked = $(shell grep -rl --include='*.py' 'mark\.$(1)' tests/oldest tests/unit)

# The oldest Airflow that is supported, in an environment of its own: real processes, and whole DAGs by dag.test().
oldest: $(OLDEST) middle
	$(OLD)/bin/python -m pytest -p no:cacheprovider --numprocesses $(OLD_WORKERS) --dist loadfile -m oldest \
	  $(call marked,oldest)

# The Airflow in between, in a small form: two DAGs on real processes, triggers, what Airflow finds of the provider.
middle: $(MADE_MIDDLE)
	$(MIDDLE)/bin/python -m pytest -p no:cacheprovider --numprocesses $(OLD_WORKERS) --dist loadfile -m middle \
	  $(call marked,middle)

# The last line of what it prints is one JSON object. BENCH_ARGS="--only bare-loop" measures a part.
BENCH_ARGS ?=
bench: $(BENCHED)
	@$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

venv: $(TEST)

$(MADE): | check-python
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@touch $@

$(DEMO): $(MADE) pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable '.[demo]'
	@touch $@

# tccli brings the SDK of every product, 600 MB that are hardly used: compiling it would take longer than all the rest.
$(TEST): $(MADE) pyproject.toml $(CONSTRAINTS)
	$(PIP) --no-compile tccli
	$(PIP) --editable '.[test]'
	@touch $(DEMO) $@

$(OLDEST): pyproject.toml $(OLD_CONSTRAINTS) | check-python
	rm -rf $(OLD)
	$(PYTHON) -m venv $(OLD)
	$(OLD_PIP) --upgrade pip
	$(OLD_PIP) --editable '.[oldest]'
	@touch $@

$(MADE_MIDDLE): pyproject.toml $(MIDDLE_CONSTRAINTS) | check-python
	rm -rf $(MIDDLE)
	$(PYTHON) -m venv $(MIDDLE)
	$(MIDDLE_PIP) --upgrade pip
	$(MIDDLE_PIP) --editable '.[oldest]'
	@touch $@

$(BENCHED): pyproject.toml $(BENCH_CONSTRAINTS) | check-python
	rm -rf $(BENCH)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH_PIP) --upgrade pip
	$(BENCH_PIP) --editable '.[bench]'
	@touch $@

# Debian's python3 comes without venv and ensurepip, and an older one than 3.10 may be the default.
check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo 'Python 3.10 or newer is needed; name one with: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

PYTHONS ?= python3.10 python3.11 python3.12 python3.13
constraints: check-python
	$(PYTHON) constraints/resolve.py $(PYTHONS)

clean:
	rm -rf $(VENV) .venv-3.* $(OLD) $(MIDDLE) $(BENCH) .demo .chaos .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
