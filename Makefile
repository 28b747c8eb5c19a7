# Everything runs in .venv, which these targets make on a fresh machine: Python 3.11 to 3.13 with its headers, a C++20
# compiler and make suffice. PYTHON=python3.13 names the Python that .venv is made with; without it, it is the first of
# these that is there.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
  $$name -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
MODEL := smollm2-135m-instruct
CPP_BUILD := build/cpp
SANITIZED := build/sanitized
THREADS := build/threads
CPP := $(shell find runtime tests/cpp -path runtime/vendor -prune -o \( -name '*.h' -o -name '*.hpp' -o -name '*.cc' -o -name '*.c' \) -print)

# Of `make gpu`: a Python that has torch with CUDA, where wheels come from a folder; and one that those are made for.
GPU_PYTHON ?= python3
WHEEL_PYTHON ?= python3.12
GPU_SITE := $(CURDIR)/build/gpu-site
REPORT ?= build/gpu.json

.PHONY: demo wheel wheel-aarch64 test test-cpp test-sanitized test-threads test-python dev check fix bench gpu gpu-wheels gpu-bundles gpu-rehearsal clean

# What compiles the tree. setuptools and wheel are for packages of others that come as source (tensorrt-rtx).
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "There is no Python 3.11, 3.12 or 3.13 with venv here; name one: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

COMPILING := $(VENV)/.compiling
$(COMPILING): $(VENV)/bin/python constraints.txt
	$(PIP) install -c constraints.txt --upgrade pip
	$(PIP) install -c constraints.txt --upgrade setuptools wheel scikit-build-core nanobind cmake ninja
	touch $@

# An installed tree, with what a demo needs or with everything: redone when what is compiled or required changes.
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(VENV)/.demo)
$(VENV)/.demo: PARTS := cpu,build,export
$(INSTALLED): PARTS := cpu,build,export,bench,tensorrt-rtx,dev
$(VENV)/.demo $(INSTALLED): $(COMPILING) pyproject.toml CMakeLists.txt $(CPP)
	$(BIN)/python tools/install_torch.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install -c constraints.txt --no-build-isolation -e ".[$(PARTS)]"
	touch $@

dev: $(INSTALLED)
	@git rev-parse --git-dir >/dev/null 2>&1 && git config core.hooksPath tools/hooks || true

demo: $(DEMO_INSTALLED)
	model=$$($(BIN)/python tools/fetch_models.py $(MODEL) | tail -n 1) && $(BIN)/ptgc demo "$$model"

# A wheel for this machine and Python, or for 64-bit ARM and the same Python (docs/embedding.md), in dist/.
WHEEL = PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) wheel --no-deps --no-build-isolation -w dist .
wheel: $(COMPILING)
	$(WHEEL)

wheel-aarch64: $(COMPILING)
	tag=$$($(BIN)/python -c 'import sys; print(sys.implementation.cache_tag)') && \
	_PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=.$$tag-aarch64-linux-gnu.so \
	CMAKE_ARGS="-DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/runtime/cmake/aarch64-linux-gnu.cmake" $(WHEEL)

# The sanitized C++ tests are the same tests; `make test-cpp` runs them at full speed.
test: check test-sanitized test-threads test-python

test-python: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadfile

test-cpp: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(CPP_BUILD) -G Ninja -DPTGC_BUILD_TESTS=ON -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(CPP_BUILD) && $(BIN)/ctest --test-dir $(CPP_BUILD) -j 2 --output-on-failure

test-sanitized: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(SANITIZED) -G Ninja -DPTGC_BUILD_TESTS=ON -DPTGC_SANITIZE="address;undefined" -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(SANITIZED) && $(BIN)/ctest --test-dir $(SANITIZED) -j 2 --output-on-failure

# Those tests that use threads, under the thread sanitizer.
test-threads: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(THREADS) -G Ninja -DPTGC_BUILD_TESTS=ON -DPTGC_SANITIZE=thread -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(THREADS) --target ptgc_tests && $(BIN)/ctest --test-dir $(THREADS) --output-on-failure

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/clang-format --dry-run -Werror $(CPP)

fix: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

# The commands of tools/bench/README.md, all of them: hours on two cores.
bench: $(INSTALLED)
	set -e; for part in copies pair drafters small; do PATH="$(CURDIR)/$(BIN):$$PATH" tools/bench/run.sh $$part bundles/bench; done

# Everything that needs a CUDA device (tools/gpu/README.md):
#   make gpu [WHEELS=DIR] [BUNDLES=DIR] [REPORT=FILE] [GPU_OPTIONS="--only rounds"]
# The GPU's onnxruntime lies in a folder of its own, in front of the other, because both packages write one folder.
GPU_RUN = tools/gpu/run.py --output $(REPORT) $(if $(BUNDLES),--bundles $(BUNDLES)) $(GPU_OPTIONS)
ifdef WHEELS
gpu:
	mkdir -p build && $(GPU_PYTHON) tools/gpu/wheels.py install $(WHEELS) $(GPU_SITE)
	PYTHONPATH=$(GPU_SITE) $(GPU_PYTHON) $(GPU_RUN)
else
gpu: $(GPU_SITE)/onnxruntime
	PYTHONPATH=$(GPU_SITE) $(BIN)/python $(GPU_RUN)
endif

$(GPU_SITE)/onnxruntime: $(INSTALLED)
	$(PIP) install -c constraints.txt --no-deps --upgrade --target $(GPU_SITE) onnxruntime-gpu
	touch $@

# On a machine with a package index; PIECE_MIB=60 splits larger wheels for a transfer that takes no more.
gpu-wheels:
	$(WHEEL_PYTHON) tools/gpu/wheels.py fetch $(or $(WHEELS),build/gpu-wheels) $(if $(PIECE_MIB),--piece-mib $(PIECE_MIB))

gpu-bundles: $(INSTALLED)
	model=$$($(BIN)/python tools/fetch_models.py stories15m | tail -n 1) && \
	$(BIN)/python tools/gpu/write_bundles.py $(or $(BUNDLES),bundles/gpu) --stories "$$model"

# CUDA builds through ONNX Runtime's own provider, over substitutes of CUDA's libraries: without a GPU (docs/cuda.md).
CUDA_HEADERS := build/cuda-headers
$(CUDA_HEADERS)/nvidia: $(INSTALLED)
	$(PIP) install -c constraints.txt --no-deps --upgrade --target $(CUDA_HEADERS) nvidia-cuda-runtime nvidia-cuda-crt
	touch $@

gpu-rehearsal: $(GPU_SITE)/onnxruntime $(CUDA_HEADERS)/nvidia
	$(BIN)/python tools/gpu/rehearsal/rehearse.py $(or $(BUNDLES),bundles/gpu) --onnxruntime $(GPU_SITE) \
	  --headers $(CUDA_HEADERS)/nvidia/cu13/include

clean:
	rm -rf build dist $(VENV) bundles
