# Everything goes through a virtual environment in .venv with pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# what takes minutes to compile is kept as a wheel between virtual environments
WHEELS ?= $(HOME)/.cache/wanrun/wheels
LLAMA := $(shell sed -n 's/^llama-cpp-python==//p' constraints.txt)
SD := $(shell sed -n 's/^stable-diffusion-cpp-python==//p' constraints.txt)
LLAMA_OFF := -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
             -DLLAMA_BUILD_TESTS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo tools test lint format bench test-gpu bench-gpu toy clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

$(WHEELS)/.llama-$(LLAMA): | $(BIN)/python
	mkdir -p $(WHEELS)
	CMAKE_ARGS="$(LLAMA_OFF) $(CMAKE_ARGS)" CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc 2>/dev/null || sysctl -n hw.ncpu) \
	  $(PIP) wheel --quiet --no-deps --no-binary llama-cpp-python llama-cpp-python==$(LLAMA) --wheel-dir $(WHEELS)
	touch $@

$(WHEELS)/.sd-$(SD): | $(BIN)/python
	mkdir -p $(WHEELS)
	CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc 2>/dev/null || sysctl -n hw.ncpu) \
	  $(PIP) wheel --quiet --no-deps --no-binary stable-diffusion-cpp-python stable-diffusion-cpp-python==$(SD) --wheel-dir $(WHEELS)
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wanrun needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt $(WHEELS)/.llama-$(LLAMA)
	$(PIP) install --quiet --constraint constraints.txt --find-links $(WHEELS) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --find-links $(WHEELS) --editable '.[dev]'
	touch $@

install: $(VENV)/.installed  ## install wanrun into .venv

install-dev: $(VENV)/.installed-dev  ## install what the tests need, too

demo: install  ## install, and make a video with the embedded model
	$(BIN)/wanrun run wan-toy "a red ball bouncing on a blue surface" --seed 8 -o demo.mp4

tools:  # a real registry, a second client for it and a browser, which the tests drive
	@missing=$$(for tool in docker-registry skopeo chromium; do command -v $$tool >/dev/null || echo $$tool; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else echo "the tests need $$missing; on Debian: apt-get install" $$missing >&2; exit 1; fi

test: lint tools  ## install, lint, and run every test
	$(PYTEST) -n 2

lint: install-dev  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install-dev  ## put everything into the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.installed-bench: $(VENV)/.installed-dev $(WHEELS)/.sd-$(SD)
	$(PIP) install --quiet --constraint constraints.txt --find-links $(WHEELS) --editable '.[dev,bench]'
	touch $@

bench: $(VENV)/.installed-bench  ## measure speed and memory as ratios against peers; BENCH=--quick is a trial
	$(BIN)/python -m tests.benchmarks $(BENCH)

test-gpu: install-dev  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

bench-gpu: install-dev  ## measure speed on a CUDA device as ratios against peers
	$(BIN)/python -m tests.benchmarks.peers --device cuda $(BENCH)

toy: install-dev  ## train wan-toy from nothing, or continue where it stopped
	$(BIN)/python modelfiles/wan-toy/recipe/make.py

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
