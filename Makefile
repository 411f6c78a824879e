# `make demo` and `make test` do everything. Each sets up .venv automatically on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-pull run test test-long test-readers lint sanitize fuzz mutation coverage docs reference picture bench bench-all lock \
	frozen-output wheel image release clean

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

# The tests of the C on a build with ASan and UBSan; TEST_EXAMPLES=0.1 gives each property a tenth of its examples.
sanitize: $(READY)
	$(BIN)/python -m tests.sanitize $(PYTEST_ARGS)

# An hour for each of four harnesses, two at a time. It needs clang.
FUZZ_SECONDS ?= 3600
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# fastparquet and PySpark have an environment of their own, for tests/readers; PySpark needs Java.
test-readers: $(READY) build/readers/.ready
	READERS_PYTHON=$(CURDIR)/build/readers/bin/python $(BIN)/python -m pytest tests/readers $(PYTEST_ARGS)

build/readers/.ready: Makefile
	$(PYTHON) -m venv build/readers
	build/readers/bin/python -m pip install --quiet --disable-pip-version-check --no-compile 'fastparquet>=2026' pyarrow 'pyspark>=4'
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

# Each night: which lines and branches of daemon/ the tests reach; below the floor in pyproject.toml it fails. CONTRIBUTING.md has more.
coverage: $(READY)
	$(BIN)/python -m pytest --ignore tests/system --ignore tests/readers -m 'not no_cover' --cov --cov-report=term-missing $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, in build/site; a broken link is an error.
docs: $(READY)
	$(BIN)/python docs/build.py

# The pages of docs/reference, from the code.
reference: $(READY)
	$(BIN)/python docs/reference/generate.py

# The picture in README.md, over the drops of `make demo`; needs Chromium.
picture: $(READY)
	$(BIN)/python -m examples.picture

# One wheel for every CPython from 3.11 on, on every Linux with glibc 2.17 or later: dist/.
wheel: $(READY)
	STRANDLINE_WHEEL_PLATFORM=manylinux_2_17_$(shell uname -m) $(BIN)/python -m pip wheel . --no-build-isolation --no-deps --wheel-dir dist
	$(BIN)/python -m auditwheel show dist/strandline-*-manylinux_2_17_$(shell uname -m).whl

bench: $(READY)
	$(BIN)/python -m benchmarks

# dlt, PySpark and dbt have an environment of their own; PySpark needs Java.
bench-all: bench .venv-peers/.ready
	$(BIN)/python -m benchmarks --peers-python .venv-peers/bin/python

.venv-peers/.ready: Makefile
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check 'dlt[parquet,duckdb]>=1' 'pyspark>=4' pyarrow \
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

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
# The first one that works: docker may be installed without its daemon.
BUILDER ?= $(firstword $(foreach one,docker podman buildah,$(if $(shell $(one) info >/dev/null 2>&1 && echo works),$(one))))

# The image needs one of docker, podman and buildah (BUILDER=… chooses).
image:
	$(or $(BUILDER),$(error none of docker, podman and buildah works here)) build --build-arg SOURCE_COMMIT=$(COMMIT) --tag strandline:$(VERSION) .

# Everything that a release consists of: the wheel in dist/, and the image.
release: wheel image

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
