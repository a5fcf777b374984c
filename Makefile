# Every target sets up what it needs in .venv, once. Paths are relative, so that a checkout may lie anywhere.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: run test faults lint types docs dist bench sabotage clean distclean help

python := .venv/bin/python
pip := $(python) -m pip --disable-pip-version-check --quiet
pytest := $(python) -m pytest

plugins := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
speedups := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/speedups/pyproject.toml))
distributions := core $(plugins) $(speedups)

run: .venv/.editable             ## The pool at work, in ten seconds; ARGS="--listen URL --to URL": the daemon with these
ifdef ARGS
	.venv/bin/producer-pool run $(ARGS)
else
	@$(python) -m producer_pool.cli.demo
endif

test: .venv/.dev .venv/.editable ## All tests, in parallel and in random order; ARGS="-k name" chooses
	$(pytest) -n auto --maxprocesses 8 --dist loadgroup $(ARGS)

faults: .venv/.dev .venv/.editable ## What is promised under fault, in full and with figures; as root for all of it; ARGS="-k name" chooses
	PRODUCER_POOL_FAULTS=full $(pytest) tests/faults $(ARGS)

lint: .venv/.dev                 ## ruff: lint and format check
	$(python) -m ruff check .
	$(python) -m ruff format --check .

types: .venv/.dev .venv/.editable ## mypy --strict over all distributions and tests
	$(python) -m mypy

docs: .venv/.dev .venv/.editable ## The documentation as HTML in docs/_build/html
	$(python) -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

dist: .venv/.dev                 ## A wheel of every distribution in dist/
	@rm -rf dist/producer_pool*.whl $(addsuffix /build,$(speedups))
	$(pip) wheel --no-deps --no-build-isolation --wheel-dir dist $(addprefix ./,$(distributions))
	@ls dist/*.whl

bench: .venv/.dev .venv/.editable ## Measure side by side with others; ARGS="tcp udp" chooses
	$(python) tests/bench $(ARGS)

sabotage: .venv/.dev .venv/.editable ## Test the tests: each listed change to the product must turn its test red
	$(python) tests/contract/sabotage $(ARGS)

clean:                           ## Remove what the targets made, except .venv
	rm -rf build dist $(addsuffix /build,$(speedups)) docs/_build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean                 ## Remove .venv and what the bench fetched, too
	rm -rf .venv .bench-cache $(addsuffix /src/*/*.so,$(speedups))

help:                            ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

# --- setting up ----------------------------------------------------------------------------------------------------
# A stamp is older than what it was made from, or there is nothing to do. pip refuses an editable install in hash mode:
# so pinned packages first, then ours without looking at dependencies or an index.

.venv/.editable: .venv/.run core/pyproject.toml $(addsuffix /pyproject.toml,$(plugins)) \
    $(wildcard $(addsuffix /*.*,$(speedups)))
	$(pip) install --no-deps --no-build-isolation $(patsubst %,-e ./%,$(distributions))
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.run
	$(pip) install --require-hashes -r requirements/dev.txt
	@touch $@

.venv/.run: requirements/run.txt .venv/.made
	$(pip) install --require-hashes -r requirements/run.txt
	@touch $@

# PYTHON=... overrides the search. A name on PATH may be a stub that starts nothing, so each candidate is run.
.venv/.made:
	@found=; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3.14 python3); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo 'make: no Python 3.11 or newer found$(if $(PYTHON), at $(PYTHON)); install one, or name it: make PYTHON=...' >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    package=$$("$$found" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	    echo "make: $$found cannot make virtual environments; on Debian and Ubuntu: apt install $$package" >&2; \
	    exit 1; \
	fi; \
	echo "setting up .venv with $$("$$found" --version)"; \
	"$$found" -m venv .venv
	@touch $@
