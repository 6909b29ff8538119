# `make` lists the targets. ARGS= goes to the underlying command, e.g. `make table ARGS=--quick`, `make test ARGS="-n0 -x"`.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Where torch and CUDA are already installed, `make gpu GPU_PYTHON=python3` needs no environment of its own.
GPU_PYTHON ?= $(PY)

PIP := $(PY) -m pip install --disable-pip-version-check --constraint constraints.txt
EXTRAS := plots,notebooks,distributed,graphs,sklearn,jax,fast,fusion,models,peft,tasks,docs,dev
# No jax: what it needs of NumPy is newer than what gwtools needs.
MINIMUM := plots,distributed,graphs,sklearn,fast,fusion,dev
simulate = $(1) -m simulations.$(2) --out simulations/results/$(2) $(ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help table bounds claims search global stationarity variants free_marginals pairs watchdog proofs attack speed scaling batch losses study gpu test mutants lint notebooks docs minimum barycenters directions interval clouds clean $(VENV)

help: ## list these targets
	@sed -n 's/^\([a-z_]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

table: $(VENV) ## the Gromov-Wasserstein simulation table, beside the published one
	$(call simulate,$(PY),gw_table)

bounds: $(VENV) ## how tight each lower bound is, and whether quantised spaces prove more
	$(call simulate,$(PY),bounds)
	$(call simulate,$(PY),quantised_bounds)

search: export OMP_NUM_THREADS := 1
search: $(VENV) ## what the default search finds on hard pairs, against others, and in what time
	$(call simulate,$(PY),hard_pairs)
	$(call simulate,$(PY),search_claims)

global: export OMP_NUM_THREADS := 1
global: $(VENV) ## how far solvers end from proved minima, and what other global programs prove
	$(call simulate,$(PY),global_gap)
	$(call simulate,$(PY),global_rivals)

claims: export OMP_NUM_THREADS := 1
claims: $(VENV) ## what certificates prove in given seconds, family by family
	$(call simulate,$(PY),certificate_claims)

interval: export OMP_NUM_THREADS := 1
interval: $(VENV) ## how the proved interval of two pairs closes, from effort to effort
	$(call simulate,$(PY),closing_interval)

stationarity: export OMP_NUM_THREADS := 1
stationarity: $(VENV) ## whether plans that solvers call stationary are
	$(call simulate,$(PY),stationarity)

free_marginals: export OMP_NUM_THREADS := 1
free_marginals: $(VENV) ## semi-relaxed, partial and unbalanced plans against POT's, partitions, outliers
	$(call simulate,$(PY),free_marginals)

directions: export OMP_NUM_THREADS := 1
directions: $(VENV) ## directed spaces and the Kullback-Leibler loss against POT's
	$(call simulate,$(PY),directions)

variants: export OMP_NUM_THREADS := 1
variants: $(VENV) ## fused objectives against POT's
	$(call simulate,$(PY),variants)

pairs: export OMP_NUM_THREADS := 1
pairs: $(VENV) ## all pairs of 200 graphs, killed, resumed and distributed, certified neighbours, and bounds as features
	$(call simulate,$(PY),all_pairs)
	$(call simulate,$(PY),bounds_as_features)

barycenters: export OMP_NUM_THREADS := 1
barycenters: $(VENV) ## barycenters, plain and fused, against POT's
	$(call simulate,$(PY),barycenters)

clouds: export OMP_NUM_THREADS := 1
clouds: $(VENV) ## plans between squared clouds of up to a million points
	$(call simulate,$(PY),squared_clouds)

watchdog: export OMP_NUM_THREADS := 1
watchdog: $(VENV) ## random pairs of every kind, each under a time limit
	$(call simulate,$(PY),watchdog)

proofs: export OMP_NUM_THREADS := 1
proofs: $(VENV) ## certificates of small pairs against rational arithmetic
	$(call simulate,$(PY),proofs)

attack: export OMP_NUM_THREADS := 1
attack: $(VENV) ## quartic certificates of tiny pairs against thirty descents each
	$(call simulate,$(PY),attack)

study: export OMP_NUM_THREADS := 1
study: $(VENV) ## whether graphs on logits help a student, arm by arm, against labels and the teacher's answers
	$(call simulate,$(PY),fusion_study)

speed: export OMP_NUM_THREADS := 1
speed: $(VENV) ## running times against POT
	$(call simulate,$(PY),speed)
	$(call simulate,$(PY),dense_speed)

scaling: export OMP_NUM_THREADS := 1
scaling: $(VENV) ## time, memory and objective against n, beside POT and OTT-JAX
	$(call simulate,$(PY),scaling)

batch: export OMP_NUM_THREADS := 1
batch: $(VENV) ## throughput of batches against loops and ot.batch
	$(call simulate,$(PY),batch)

losses: $(VENV) ## what the fusion losses move, what they cost, and what stores round
	$(call simulate,$(PY),loss_fields)
	$(call simulate,$(PY),loss_speed)
	$(call simulate,$(PY),store_precision)

gpu: ## the tests that need a CUDA device, then its timing tables and training in bfloat16
	$(GPU_PYTHON) -m pytest -o addopts= -o faulthandler_timeout=900 -m gpu
	$(call simulate,$(GPU_PYTHON),gpu)
	$(call simulate,$(GPU_PYTHON),gpu_bounds)
	$(call simulate,$(GPU_PYTHON),gpu_training)
ifeq ($(GPU_PYTHON),$(PY))
gpu: $(VENV)
endif

# pytest's workers are the parallelism
test: export OMP_NUM_THREADS := 1
test: $(VENV) ## the test suite
	$(PY) -m pytest $(ARGS)

mutants: export OMP_NUM_THREADS := 1
mutants: $(VENV) ## which changes of the modules that round outward no test notices (hours; ARGS=--list: the changes)
	$(PY) -m tests.mutate $(ARGS)

lint: $(VENV) ## style, formatting, types and docstrings of public names
	$(PY) -m ruff check $(ARGS)
	$(PY) -m ruff format --check
	$(PY) -m mypy $(wildcard gwtools fusion)
	$(PY) -m tests.docstrings

notebooks: $(VENV) ## execute the notebooks in quick form (ARGS=--write: in full, keeping the outputs)
	$(PY) notebooks/execute.py $(ARGS)

docs: export OMP_NUM_THREADS := 1
docs: $(VENV) ## the documentation, in build/docs, and a check of its links, pictures and code
	rm -rf build/docs
	$(PY) -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/docs
	$(PY) -m tests.pages build/docs

minimum: export OMP_NUM_THREADS := 1
minimum: ## the tests of gwtools with the least versions of what it needs, in .venv-minimum
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --constraint constraints-minimum.txt torch
	.venv-minimum/bin/python -m pip install --constraint constraints-minimum.txt --editable '.[$(MINIMUM)]'
	.venv-minimum/bin/python -m pytest --ignore=tests/fusion --ignore=tests/simulations --ignore=tests/whole/test_extras.py $(ARGS)

clean: ## remove caches, build products and quick results
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache simulations/results/*-quick
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The environment, made when it is missing and renewed when the pins change.
$(VENV): $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt | $(PY)
	$(PIP) torch
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
