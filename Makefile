# make report   set up everything and run the mini study
# make test     set up everything and run the tests
# make test-fast   ... and those that take less than three seconds each
# make test-long   ... and those that take a minute or more each
# make mutants  plant faults into a copy of the package; the tests that should notice each must fail
# make torture  break a tiny study in a hundred ways; each must heal, or say how (20 minutes; TORTURE_FAULTS=30 for fewer)
# make gpu-check  accuracy and speed of everything on a CUDA device against the goals (about eight minutes, no data needed)
# make all-data  generate all of the mini data and compare their hash with the recorded one
# make slurm-test  run a tiny study on a SLURM cluster of two nodes on this machine (Debian: installs slurm-wlm, munge)
# make expected   run the mini study with eight seeds (about an hour) and renew params/expected/mini.csv
# Needs python3 >= 3.11, make and git. uv goes to .tools/, the locked environment to .venv/; nothing
# is installed outside this folder.

PYTHON ?= python3
CORES ?= 8
GPUS ?= 4
UV := .tools/bin/uv
READY := .venv/.ready
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# Without its cache Python compiles torch, Snakemake and MLflow again in every process: half of their start-up.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: report test test-fast test-long mutants torture gpu-check all-data slurm-test expected setup lint lock clean

report: $(READY)
	snakemake --cores $(CORES) --resources gpu=$(GPUS) reports/all.html

# Our reference results, with which the page of the mini study compares.
SEEDED := --configfile params/studies/mini.yaml --config study=mini-seeds 'seeds=[0,1,2,3,4,5,6,7]'
expected: $(READY)
	snakemake --cores $(CORES) --resources gpu=$(GPUS) $(SEEDED) -- results/mini-seeds/metrics.json
	vosrepro report --study state/studies/mini-seeds.json --only outlets --write-expected params/expected/mini.csv

test: $(READY)
	pytest -n 2 --dist worksteal $(TESTS)

test-fast: $(READY)
	pytest -n 2 --dist worksteal -m "not slow and not long and not mutants and not all_data and not torture and not slurm and not pretend_cuda" $(TESTS)

test-long: $(READY)
	pytest -n 2 --dist worksteal -m long tests

mutants: $(READY)
	pytest -n 2 --dist worksteal -m mutants tests/mutants

torture: $(READY)
	pytest -q -n 0 -m torture tests/torture

gpu-check: $(READY)
	vosrepro bench gpu-check $(CHECK)

# Only root can install; elsewhere the test says what lacks.
slurm-test: $(READY)
	@command -v slurmctld >/dev/null || [ -x /usr/sbin/slurmctld ] || ! command -v apt-get >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		  apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >/dev/null || \
		echo "slurm-wlm and munge cannot be installed here" >&2
	pytest -m slurm tests/workflow/test_slurm.py

all-data: $(READY)
	pytest -m all_data tests/datasets

setup: $(READY)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vosrepro needs Python 3.11 to 3.13; name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .tools >/dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; \
		  rm -rf .tools; exit 1; }
	.tools/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"

# An environment names its own place in every script: after the checkout was moved it is made anew.
MOVED := $(if $(wildcard .venv/bin/activate),$(if $(shell grep -sF '$(CURDIR)/.venv' .venv/bin/activate),,moved))
.PHONY: moved
moved:

$(READY): requirements.lock pyproject.toml $(MOVED) | $(UV)
	$(if $(MOVED),rm -rf .venv)
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
	@touch $@

lint: $(READY)
	ruff format --check
	ruff check
	snakefmt --check Snakefile workflow
	lint-imports
	deptry .
	vulture
	basedpyright --level error

# Newest versions that resolve, for all supported Pythons; hashes, no addresses.
lock: | $(UV)
	$(UV) pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --group dev \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# Results and pages of all studies; data, training state and the environment stay.
clean:
	rm -rf results reports/*.html reports/*/ logs benchmarks .snakemake/metadata .snakemake/incomplete
