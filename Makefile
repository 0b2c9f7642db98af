# `make up` and `make test` are all the set-up there is: they need python3 (3.11 or newer, with
# venv) and make. Everything installed comes from requirements/*.lock, checked by hash.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
SUITE  := not faults and not external
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up test test-external faults check lock schema migration dev clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'

up: $(VENV)/.run  ## run all of it on this machine until Ctrl-C (PORT, VITALS_DATA)
	@exec $(PY) -m ops up

test: $(VENV)/.dev  ## the tests, on embedded servers (ARGS="tests/ops -x" for some of them)
	$(PY) -m pytest -n 2 -m "$(SUITE)" $(ARGS)

test-external: $(VENV)/.dev  ## the tests, on TEST_DATABASE_URL (a superuser) and TEST_BROKER_URL
	@test -n "$$TEST_DATABASE_URL" -a -n "$$TEST_BROKER_URL" || { echo "set TEST_DATABASE_URL and TEST_BROKER_URL"; exit 1; }
	$(PY) -m pytest -m "not faults" $(ARGS)

faults: $(VENV)/.dev  ## the long tests that kill processes and move volumes
	$(PY) -m pytest -m faults $(ARGS)

check: $(VENV)/.dev  ## format, lint, types, layers, docker files
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/hadolint docker/Dockerfile
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml

UVC = $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header $(UPGRADE)
lock: $(VENV)/bin/uv  ## write requirements/*.lock (UPGRADE=--upgrade moves to the newest versions)
	$(UVC) pyproject.toml -o requirements/prod.lock
	$(UVC) pyproject.toml --extra embedded -c requirements/prod.lock -o requirements/run.lock
	$(UVC) pyproject.toml --extra embedded --group dev -c requirements/run.lock -o requirements/dev.lock
	$(UVC) requirements/build.in -o requirements/build.lock
	$(UVC) requirements/uv.in -o requirements/uv.lock
	! grep -n '://' requirements/*

schema: $(VENV)/.dev  ## write the schema snapshot, api/graphql/schema.graphql
	$(PY) -m api.graphql.schema > $(VENV)/schema.graphql
	mv $(VENV)/schema.graphql api/graphql/schema.graphql

migration: $(VENV)/.dev  ## write a migration from the difference of models and schema (m="what it does")
	@test -n "$(m)" || { echo 'say what it does: make migration m="add …"'; exit 1; }
	$(PY) -m ops migrate new "$(m)"

dev: $(VENV)/.dev  ## install everything for development and benchmarks

clean:  ## remove what was installed and the local data
	rm -rf $(VENV) .local

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=…")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) has no venv: on Debian and Ubuntu, apt install python3-venv"; exit 1; }

PIP  = $(PY) -m pip install -q --disable-pip-version-check --no-compile --no-deps
LOCKED = --require-hashes --only-binary=:all:

$(VENV)/bin/uv: requirements/uv.lock | $(PY)
	@$(PIP) $(LOCKED) -r $<
	@touch $@

# pip alone can install it all; uv, where it can be had, does it three times as fast.
define install
	@echo "installing $(filter %.lock,$^) …"
	@$(MAKE) -s $(VENV)/bin/uv || true
	@for tool in "$(VENV)/bin/uv pip install -q --no-deps --python $(PY)" "$(PIP)"; do \
	  $$tool $(LOCKED) $(patsubst %,-r %,$(filter %.lock,$^)) && $$tool --no-build-isolation -e . && exit 0; \
	  echo "$$tool: failed"; done; exit 1
	@touch $@
endef

$(VENV)/.run: requirements/run.lock requirements/build.lock pyproject.toml | $(PY)
	$(install)
$(VENV)/.dev: requirements/dev.lock requirements/build.lock pyproject.toml | $(PY)
	$(install)
