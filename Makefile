# Each target is a documented command over the environment that `make setup` builds.
SHELL := /bin/sh
PYTHON ?= python3
CORES ?= $(shell nproc)
UV_VERSION := 0.13.8
BIN := .venv/bin
# A folder of wheels named for pip is one for uv too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

# Of `make bundle`, PYTHON is the version of the target.
ifeq ($(MAKECMDGOALS),bundle)
  TARGET_PYTHON := $(PYTHON)
  override PYTHON := python3
endif
# In a bundle: which study it is for.
-include bundle/study.mk

BENCHMARKS := $(addprefix bench-,train statistics attribution ablation evaluation precision growth workflow trials)

.PHONY: run test test-interchange test-studies test-incremental test-incremental-all test-gpu test-kill test-faults test-cluster test-cluster-faults \
  $(BENCHMARKS) bundle check setup lock clean

# The default study, or STUDY=studies/mine.yaml.
run: setup
	$(BIN)/python -m snakemake --cores $(CORES) $(if $(STUDY),--configfile '$(STUDY)')

test: setup
	$(BIN)/python -m pytest

# With TRL and rewardbench, each in an environment of its own; skipped where that cannot be built.
test-interchange: setup
	-$(MAKE) --quiet .venv-interchange/trl/installed .venv-interchange/rewardbench/installed
	$(BIN)/python -m pytest tests/interchange

# Every kind of study, small, run to its report.
test-studies: setup
	$(BIN)/python -m pytest --numprocesses 0 tests/studies

# What a change makes run again, held against docs/incremental.md: one change for each answer there, some 130 dry runs.
test-incremental: setup
	$(BIN)/python -m pytest --numprocesses 0 -m sample tests/workflow/test_rerun.py

# Every change, whatever its date: some 400 dry runs.
test-incremental-all: setup
	$(BIN)/python -m pytest --numprocesses 0 -m page tests/workflow/test_rerun.py

# The small study killed at KILLS random moments, started again each time, and compared with one left alone.
test-kill: setup
	$(BIN)/python -m pytest --numprocesses 0 --capture no tests/kill

# Signals, a full disk, a read-only folder, a killed job.
test-faults: setup
	$(BIN)/python -m pytest --numprocesses 0 tests/faults

# On a SLURM that it starts on this machine; skipped, with the reason, where that cannot be had.
test-cluster: setup
	$(BIN)/python -m pytest -rs --numprocesses 0 -m "not faults" tests/cluster

# Jobs cancelled, warned, requeued, out of memory, without a node, a controller, a main process.
test-cluster-faults: setup
	$(BIN)/python -m pytest -rs --numprocesses 0 -m faults tests/cluster

# What a GPU computes, held against the CPU; skipped where torch sees none.
test-gpu: setup
	$(BIN)/python -m pytest -rs --numprocesses 0 tests/gpu

# One measurement each, see docs/performance.md; make bench-train OPTIONS="--pairs 64", or --help for all of them.
bench-train: .venv-interchange/trl/installed
bench-evaluation: .venv-interchange/rewardbench/installed
bench-statistics: .venv-interchange/lenses/installed
$(BENCHMARKS): bench-%: setup
	$(BIN)/python -m benchmarks.$* $(OPTIONS)

# All that a machine without a network needs for a study: make bundle STUDY=studies/mine.yaml PYTHON=3.12
# SIZE=60M: in parts of that size. WITHOUT="torch nvidia-*": packages that the target has. See docs/cluster.md.
PLATFORM ?= x86_64-manylinux_2_28
BUNDLE ?= bundles/$(basename $(notdir $(STUDY)))
bundle: setup
	$(if $(STUDY),,$(error name the study: make bundle STUDY=studies/mine.yaml PYTHON=3.12))
	$(BIN)/rmtension bundle '$(STUDY)' $(BUNDLE) --python $(TARGET_PYTHON) --platform $(PLATFORM) \
	  $(foreach name,$(WITHOUT),--without '$(name)')
	$(if $(SIZE),rm -f $(BUNDLE).tar* && tar -C $(dir $(BUNDLE)) -cf $(BUNDLE).tar $(notdir $(BUNDLE)) \
	  && split -b $(SIZE) -d -a 3 $(BUNDLE).tar $(BUNDLE).tar. && rm -r $(BUNDLE) $(BUNDLE).tar)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

setup: .venv/installed

# Compiled at once, as pip does: where PYTHONDONTWRITEBYTECODE is set, every start would compile what it imports.
.venv/installed: requirements.lock pyproject.toml .uv/bin/uv
	.uv/bin/uv venv --quiet --allow-existing --python $(PYTHON) .venv
	.uv/bin/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	.uv/bin/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

.venv-interchange/%/installed: tests/interchange/%.txt .uv/bin/uv
	.uv/bin/uv venv --quiet --clear --python $(PYTHON) $(@D)
	.uv/bin/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python -r $<
	touch $@

# Into a folder of its own: needs neither root, nor venv, nor leave to change the system's Python.
.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --target .uv uv==$(UV_VERSION)

# The GPU libraries are left out: torch itself names their exact versions.
lock: .uv/bin/uv
	UV_FIND_LINKS= .uv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header \
	  --no-annotate pyproject.toml \
	  | grep -v -E '^(nvidia|cuda|triton)' > requirements.lock

clean:
	rm -rf .venv .venv-interchange .uv .snakemake
