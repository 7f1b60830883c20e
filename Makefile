# Two commands matter: `make demo` and `make test`. Both work on a machine with only Python 3.11 or 3.12 and make.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format install install-dev bench licences audit clean

demo: install
	$(BIN)/ssm-stream demo

test: install-dev
	$(BIN)/pytest

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install-dev
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/throughput.py

licences: install-dev
	$(BIN)/python .ci/licences.py

# Asks the package index for known vulnerabilities: needs the network.
audit: licences
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	$(BIN)/pip freeze --exclude-editable > build/installed.txt
	build/audit/bin/pip-audit --strict --requirement build/installed.txt --no-deps --disable-pip

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "ssm-stream needs Python 3.11 or 3.12 (Bytewax has no wheels for 3.13 yet): install one, or call make PYTHON=/path/to/python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
