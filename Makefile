# Each target makes or refreshes .venv by itself: `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-all test-lowest lint bench audit docs dist clean

demo: $(READY)
	$(BIN)/distilcse demo

# a process a core, four at most, each with one thread: several threads of several processes would wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal --durations 25

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

# the quick tests with the oldest packages that pyproject.toml allows
LOWEST := .venv-lowest/bin
test-lowest:
	test -x $(LOWEST)/python || $(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python tools/lowest.py > .venv-lowest/lowest.txt
	$(LOWEST)/python -m pip install --quiet --constraint .venv-lowest/lowest.txt \
	    --editable '.[cpu,onnx,plots,tensorboard]' hypothesis pytest pytest-timeout pytest-xdist sentence-transformers
	$(subst $(BIN),$(LOWEST),$(PYTEST)) -m "not e2e and not real_model and not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks

# asks the network about known vulnerabilities, so it is no part of the tests
audit: $(READY)
	test -x $(BIN)/pip-audit || $(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

# the site, into build/site; a broken link is an error
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# what PyPI gets, and how its page there reads
DIST := .venv-dist/bin
dist:
	test -x $(DIST)/twine || { $(PYTHON) -m venv .venv-dist && \
	    $(DIST)/python -m pip install --quiet --constraint constraints.txt build twine; }
	rm -rf dist
	$(DIST)/python -m build
	$(DIST)/twine check --strict dist/*

clean:
	rm -rf .venv .venv-dist .venv-lowest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	touch $(READY)
