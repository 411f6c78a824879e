# `make demo` and `make test` do everything. Each sets up .venv automatically on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-pull run test test-long lint bench bench-all lock clean

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
	$(BIN)/python -m tests.faults.errors --seeds 2 --step 4 --reads
	$(BIN)/python -m tests.faults.damage --seeds 4

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
