# Everything runs in .venv, which these targets make on a fresh machine: Python 3.11, a C++ compiler and make suffice.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
PARTS := cpu,build,export,bench,tensorrt-rtx,dev
MODEL := smollm2-135m-instruct
CPP_BUILD := build/cpp
SANITIZED := build/sanitized
THREADS := build/threads
CPP := $(shell find runtime tests/cpp -name '*.h' -o -name '*.hpp' -o -name '*.cc' -o -name '*.c')

# Of `make gpu`: a Python that has torch with CUDA, where wheels come from a folder; and one that those are made for.
GPU_PYTHON ?= python3
WHEEL_PYTHON ?= python3.12
GPU_SITE := $(CURDIR)/build/gpu-site
REPORT ?= build/gpu.json

.PHONY: demo test test-cpp test-sanitized test-threads test-python dev check fix bench gpu gpu-wheels gpu-bundles gpu-rehearsal clean

# An installed tree: redone when what is compiled or required changes.
INSTALLED := $(VENV)/.installed
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(INSTALLED): $(VENV)/bin/python pyproject.toml constraints.txt CMakeLists.txt $(CPP)
	$(PIP) install -c constraints.txt scikit-build-core nanobind nlohmann-json cmake ninja
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[$(PARTS)]"
	touch $@

dev: $(INSTALLED)
	@git rev-parse --git-dir >/dev/null 2>&1 && git config core.hooksPath tools/hooks || true

demo: $(INSTALLED)
	model=$$($(BIN)/python tools/fetch_models.py $(MODEL) | tail -n 1) && $(BIN)/ptgc demo "$$model"

# The sanitized C++ tests are the same tests; `make test-cpp` runs them at full speed.
test: check test-sanitized test-threads test-python

test-python: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadfile

test-cpp: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(CPP_BUILD) -G Ninja -DPTGC_BUILD_PYTHON=OFF -DPTGC_BUILD_TESTS=ON -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(CPP_BUILD) && $(BIN)/ctest --test-dir $(CPP_BUILD) -j 2 --output-on-failure

test-sanitized: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(SANITIZED) -G Ninja -DPTGC_BUILD_PYTHON=OFF -DPTGC_BUILD_TESTS=ON -DPTGC_SANITIZE="address;undefined" -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(SANITIZED) && $(BIN)/ctest --test-dir $(SANITIZED) -j 2 --output-on-failure

# Those tests that use threads, under the thread sanitizer.
test-threads: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(THREADS) -G Ninja -DPTGC_BUILD_PYTHON=OFF -DPTGC_BUILD_TESTS=ON -DPTGC_SANITIZE=thread -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(THREADS) --target ptgc_tests && $(BIN)/ctest --test-dir $(THREADS) --output-on-failure

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/clang-format --dry-run -Werror $(CPP)

fix: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

# The commands of tools/bench/README.md, all of them: hours on two cores.
bench: $(INSTALLED)
	set -e; for part in copies pair small; do PATH="$(CURDIR)/$(BIN):$$PATH" tools/bench/run.sh $$part bundles/bench; done

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
	rm -rf build $(VENV) bundles
