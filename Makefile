# `make demo` and `make test` do everything. Each sets up .venv automatically on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-pull run test test-long test-readers frozen-output mutation lint bench bench-all lock clean

demo: $(READY)
	$(BIN)/python examples/demo.py

demo-pull: $(READY)
	$(BIN)/python examples/demo_pull.py

run: $(READY)
	$(BIN)/python examples/run.py

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# What `make test` has a part of: ten times the examples, and kills, power losses and errors at every point of more worlds. An hour
# or two; nobody waits for it before a change.
test-long: $(READY)
	TEST_LONG=1 $(BIN)/python -m pytest --timeout 0 $(PYTEST_ARGS)
	$(BIN)/python -m tests.faults.kills --seeds 10
	$(BIN)/python -m tests.faults.power --seeds 5
	$(BIN)/python -m tests.faults.errors --seeds 2 --step 4

# fastparquet and PySpark have an environment of their own, for tests/readers; PySpark needs Java.
test-readers: $(READY) build/readers/.ready
	READERS_PYTHON=build/readers/bin/python $(BIN)/python -m pytest tests/readers $(PYTEST_ARGS)

build/readers/.ready: Makefile
	$(PYTHON) -m venv build/readers
	build/readers/bin/python -m pip install --quiet --disable-pip-version-check --no-compile 'fastparquet>=2026' 'pyspark>=4'
	touch $@

# Each night: tests on MUTANTS small changes of the code, drawn by the date (or SEED); PROCESSES at once.
mutation: $(READY) build/mutation/.ready
	$(BIN)/python -m tests.mutation.run $(MODULES)

build/mutation/.ready: Makefile
	$(PYTHON) -m venv build/mutation
	build/mutation/bin/python -m pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.4'
	touch $@

# Once for each release, after the version in pyproject.toml was raised: what the next versions must open (tests/test_upgrade.py).
frozen-output: $(READY)
	$(BIN)/python -m tests.support.frozen

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks

# dlt, PySpark and dbt have an environment of their own; PySpark needs Java.
bench-all: bench .venv-peers/.ready
	$(BIN)/python -m benchmarks --peers-python .venv-peers/bin/python

.venv-peers/.ready: Makefile
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check 'dlt[parquet]>=1' 'pyspark>=4' pyarrow \
		'dbt-core>=1.8,<1.10' 'dbt-duckdb>=1.8,<1.10'
	touch $@

$(READY): requirements.lock pyproject.toml hatch_build.py $(wildcard daemon/core/native/*.[ch])
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# Hashes without addresses: any configured index serves the same files. The image has two lock files of its own: runtime and build.
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

lock:
	$(COMPILE) --group dev --output-file requirements.lock
	$(COMPILE) --extra cluster --extra postgres --extra delta --extra s3 --constraint requirements.lock --output-file deploy/runtime.lock
	uv pip compile --group build --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --constraint requirements.lock --output-file deploy/build.lock
	uv pip compile --group beside --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --output-file tests/beside.lock

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis
