# Every target that needs the virtual environment makes it first; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# PYTHON=... names the one to use; make setup looks for one without it.
PYTHONS := 3.11 3.12 3.13
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
DEMO ?= demo
DATA ?= ../shared/data
PORT ?= 3000
VIEW_PORT ?= $(shell expr $(PORT) + 1)

# Nothing below asks a network for anything once the environment stands.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# dagster.yaml in this folder switches Dagster's telemetry off.
ifeq ($(strip $(DAGSTER_HOME)),)
export DAGSTER_HOME := $(CURDIR)/dagster_home
endif

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9_-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP)  ## Make the virtual environment (.venv) with the tested versions, once

# The stamp holds the sums of what the environment was made from: a file that is merely newer, as
# after a checkout, installs nothing.
MADE_FROM := pyproject.toml constraints.txt requirements-encoders.txt
SUMS := $(shell cksum $(MADE_FROM))
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(SUMS))
.PHONY: $(STAMP)
endif

VERSION := -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'

# A Python is tried, not only looked up: a version manager may leave a name that does not run.
$(STAMP): | own-venv $(if $(PYTHON),asked-python)
	@python=""; found=""; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  version=$$("$$candidate" $(VERSION) 2>/dev/null) || continue; \
	  case " $(PYTHONS) " in *" $${version%.*} "*) \
	    if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; \
	    then python="$$candidate"; break; fi; \
	    version="$$version without venv";; esac; \
	  found="$$found, $$candidate is $$version"; done; \
	if [ -z "$$python" ]; then found="$${found#, }"; \
	  echo "make setup: needs one of Python $(PYTHONS), with venv; found: $${found:-none}." \
	    "Name one with PYTHON=..." >&2; exit 1; fi; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	@echo "Installing the tested versions into $(VENV) (3.1 GB, 7 GB with accelerator libraries; minutes)."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,encryption,excel,languages,postgres,provenance,ray,s3,text]'
	$(BIN)/python -m pip install --quiet --no-deps --ignore-requires-python -r requirements-encoders.txt
	@echo '$(SUMS)' > $@

# A .venv that is a link may be another checkout's: nothing is installed there unless VENV names it.
.PHONY: own-venv
own-venv:
ifeq ($(origin VENV),file)
	@[ -L $(VENV) ] || exit 0; there=$$(cd -P $(VENV) 2>/dev/null && pwd -P) || there="nothing"; \
	case "$$there/" in "$$(pwd -P)"/*) exit 0;; esac; \
	[ "$$(cat $(STAMP) 2>/dev/null)" = '$(SUMS)' ] || { \
	  echo "$(VENV) is a link to $$there, outside this folder, and was not made from the versions" \
	    "named here: remove the link for an environment of this folder's own, or install there" \
	    "with VENV=$$there." >&2; exit 1; }
endif

.PHONY: asked-python
asked-python:
	@[ -x $(BIN)/python ] || exit 0; has=$$($(BIN)/python $(VERSION)); \
	asked=$$("$(PYTHON)" $(VERSION) 2>/dev/null) || asked="one that does not run"; \
	[ "$${has%.*}" = "$${asked%.*}" ] || { \
	  echo "$(VENV) has Python $$has, and $(PYTHON) is $$asked: remove $(VENV)," \
	    "or set VENV=... to another folder." >&2; exit 1; }

.PHONY: demo
demo: $(STAMP)  ## Learn 4 products and render scenes of them, start to end, in ./demo
	$(BIN)/python -m catalog_pipeline.demo --home $(DEMO) $(if $(KEEP),--keep)

.PHONY: test
test: check  ## Checks and the test suite (everything that must hold on every machine)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-slow
test-slow: $(STAMP)  ## The tests that take minutes
	$(BIN)/python -m pytest -m slow

.PHONY: test-e2e
test-e2e: $(STAMP)  ## An operator's day in a real browser (Chromium; SCREENSHOTS=1 renews the guide's pictures)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  echo "make test-e2e: needs Chromium; on Debian: apt-get install chromium" >&2; exit 1; }
	SCREENSHOTS=$(SCREENSHOTS) $(BIN)/python -m pytest -m e2e tests/e2e

.PHONY: check
check: $(STAMP)  ## Lint, formatting, types, import rules, Dagster definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dg check defs

.PHONY: format
format: $(STAMP)  ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The demo's home where there is one, else dagster_home beside the settings.
define ON_HOME
if [ -f "$(DEMO)/dagster_home/dagster.yaml" ]; then \
  export CATALOG_PIPELINE_CONFIG="$(abspath $(DEMO))/config" CATALOG_PIPELINE_HOME="$(abspath $(DEMO))" \
    DAGSTER_HOME="$(abspath $(DEMO))/dagster_home"; fi; \
echo "settings, state and runs: $${CATALOG_PIPELINE_HOME:-$$DAGSTER_HOME/storage}"; \
export PATH="$(abspath $(BIN)):$$PATH"
endef

.PHONY: dev
dev: $(STAMP)  ## Ops UI on http://127.0.0.1:3000, on the demo's home where there is one
	@$(ON_HOME); exec dagster dev --host 127.0.0.1 --port $(PORT) -w dagster_home/workspace.yaml

.PHONY: view
view: $(STAMP)  ## The same UI, read-only, on http://127.0.0.1:3001: nothing can be launched or wiped
	@$(ON_HOME); exec dagster-webserver --read-only --host 127.0.0.1 --port $(VIEW_PORT) \
	  -w dagster_home/workspace.yaml

.PHONY: enable-automation
enable-automation: $(STAMP)  ## Start the sensors and the nightly schedules (on the home of `make dev`)
	@$(ON_HOME); \
	dagster sensor start --start-all -w dagster_home/workspace.yaml; \
	dagster schedule start --start-all -w dagster_home/workspace.yaml; \
	echo "They run as long as 'make dev' (or dagster-daemon) does; 'make disable-automation' stops them."

.PHONY: disable-automation
disable-automation: $(STAMP)  ## Stop every sensor and schedule (on the home of `make dev`)
	@$(ON_HOME); python -m catalog_pipeline.defs.ops.automation stop

.PHONY: automation-status
automation-status: $(STAMP)  ## Which sensors and schedules are on, and whether a daemon turns them
	@$(ON_HOME); python -m catalog_pipeline.defs.ops.automation status

.PHONY: sample-catalog
sample-catalog: $(STAMP)  ## Write the sample catalog (8 products x 6 photos) to ./sample_catalog
	$(BIN)/catalog-pipeline sample-catalog sample_catalog

.PHONY: docs
docs: $(STAMP)  ## Write docs/reference and build the site into build/site; it needs no network
	PYTHONPATH=. $(BIN)/python docs/site/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet -f docs/site/mkdocs.yml
	@echo "build/site/index.html"

# EXTRAS=all packs what the tests need, too.
.PHONY: bundle
bundle: $(STAMP)  ## Pack an installation for a machine without a network into build/bundle-VERSION.tar (0.9 GB)
	$(BIN)/python dagster_home/profiles/bundle/pack.py $(if $(EXTRAS),--extras $(EXTRAS))

.PHONY: base-model
base-model: $(STAMP)  ## Train the embedded base model anew (minutes on an accelerator, weeks on a CPU)
	$(BIN)/python -m catalog_pipeline.base_model.training --out base_model_run $(ARGS)

.PHONY: empty-scenes
empty-scenes: $(STAMP)  ## Render the empty scenes that ship with the embedded base anew (minutes)
	$(BIN)/python -m catalog_pipeline.workflows.learn.empty_scenes

.PHONY: bench-first-light
bench-first-light: $(STAMP)  ## The whole line on real photos: docs/benchmarks/first-light.md
	$(BIN)/python -m tests.benchmarks.first_light --data $(DATA)

# QUICK=1: three products, ten steps, to see that it runs; its report stays in build/.
BENCH_LEARNING := $(BIN)/python -m tests.benchmarks.learning
.PHONY: bench-learning
bench-learning: $(STAMP)  ## Lifelong methods on real photos: docs/benchmarks/learning.md (QUICK=1: minutes)
ifdef QUICK
	$(BENCH_LEARNING) run --data $(DATA) --home build/learning-quick --suite quick
	$(BENCH_LEARNING) report --home build/learning-quick --out build/learning-quick/report
else
	$(BENCH_LEARNING) run --data $(DATA) --suite main --suite twelve --suite few --suite parametrisation \
	  --suite ablation --suite one_task --suite budget --suite stopping --suite scale
	$(BENCH_LEARNING) report
endif

.PHONY: bench-footprint
bench-footprint: $(STAMP)  ## Time, memory and disk of the 60th SKU against the 5th: docs/benchmarks/footprint.md
	$(BIN)/python -m tests.benchmarks.learning.footprint --data $(DATA)

# LEARNED=HOME takes the products of a learned home in place of learning 24 (an hour or two).
BENCH_GENERATION := $(BIN)/python -m tests.benchmarks.generation
ON_LEARNED := $(if $(LEARNED),--learned $(LEARNED))
.PHONY: bench-generation
bench-generation: $(STAMP)  ## Scenes of 2 and 3 products, 6 methods: docs/benchmarks/generation.md (QUICK=1: minutes)
ifdef QUICK
	$(BENCH_GENERATION) learn --quick --data $(DATA) --home build/generation-quick
	$(BENCH_GENERATION) run --quick --gate --data $(DATA) --home build/generation-quick
	$(BENCH_GENERATION) report --home build/generation-quick --out build/generation-quick/report
else
	$(if $(LEARNED),,$(BENCH_GENERATION) learn --data $(DATA))
	$(BENCH_GENERATION) run --gate --data $(DATA) $(ON_LEARNED)
	$(BENCH_GENERATION) report $(ON_LEARNED)
endif

# LEARNED=HOME as above; without it 32 products are learned first.
BENCH_FIDELITY := $(BIN)/python -m tests.benchmarks.fidelity
.PHONY: bench-fidelity
bench-fidelity: $(STAMP)  ## Is a product in a picture the product: docs/benchmarks/fidelity.md (QUICK=1: minutes)
ifdef QUICK
	$(BENCH_FIDELITY) learn --quick --data $(DATA) --home build/fidelity-quick
	$(BENCH_FIDELITY) run --quick --home build/fidelity-quick
	$(BENCH_FIDELITY) report --home build/fidelity-quick --out build/fidelity-quick/report
else
	$(if $(LEARNED),,$(BENCH_FIDELITY) learn --data $(DATA))
	$(BENCH_FIDELITY) run --data $(DATA) $(ON_LEARNED)
	$(BENCH_FIDELITY) report $(ON_LEARNED)
endif

.PHONY: bench-anchor-photos
bench-anchor-photos: $(STAMP)  ## Which photos are taken for scenes, against what a person saw
	$(BIN)/python -m tests.benchmarks.anchor_photos --data $(DATA)

.PHONY: bench-regions
bench-regions: $(STAMP)  ## What crosses the border of two regions: docs/benchmarks/regions.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.regions

.PHONY: bench-curation
bench-curation: $(STAMP)  ## Which photos are left out of polluted sets: docs/benchmarks/curation.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.curation pick --data $(DATA) --rounds 1
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.curation learn --data $(DATA)
	$(BIN)/python -m tests.benchmarks.curation report

.PHONY: bench-languages
bench-languages: $(STAMP)  ## How well other languages are read: docs/benchmarks/languages.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.languages --data $(DATA)

.PHONY: bench-gpu
bench-gpu: $(STAMP)  ## Against plain diffusers on an accelerator: docs/benchmarks/gpu.md (QUICK=1: tiny, on a CPU)
	$(BIN)/python -m tests.benchmarks.gpu $(if $(QUICK),--dry-run)

.PHONY: bench-stores
bench-stores: $(STAMP)  ## The stores at scale, in a folder and on S3: docs/benchmarks/stores.md (QUICK=1: seconds)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.stores $(if $(QUICK),--quick)

.PHONY: bench-slot-bytes
bench-slot-bytes: $(STAMP)  ## What a learned product weighs: docs/benchmarks/slot-bytes.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.slot_bytes --data $(DATA)

.PHONY: bench-removal
bench-removal: $(STAMP)  ## What is left of a removed product: docs/benchmarks/removal.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.removal --data $(DATA)

.PHONY: bench-partitions
bench-partitions: $(STAMP)  ## One set of partitions at 10,000 to 300,000 SKUs: docs/benchmarks/partitions.md (QUICK=1: a minute)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.partitions $(if $(QUICK),--quick)

.PHONY: bench-capacity
bench-capacity: $(STAMP)  ## A simulated year of 100,000 SKUs beside its plan: docs/benchmarks/capacity.md
	$(BIN)/python -m tests.benchmarks.capacity

.PHONY: bench-workers
bench-workers: $(STAMP)  ## A night by workers of a Ray cluster against one without: docs/benchmarks/workers.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.workers

.PHONY: bench-leakage
bench-leakage: $(STAMP)  ## How well photos come back from what is stored: docs/benchmarks/leakage.md (QUICK=1: minutes)
	$(BIN)/python -m tests.benchmarks.leakage $(if $(wildcard $(DATA)),--data $(DATA)) \
	  $(if $(QUICK),--quick --out build/leakage-quick)

.PHONY: bench-privacy
bench-privacy: $(STAMP)  ## What DP-SGD costs and hides: docs/benchmarks/privacy.md (QUICK=1: minutes)
	$(BIN)/python -m tests.benchmarks.privacy --data $(DATA) \
	  $(if $(QUICK),--quick --out build/privacy-quick)

.PHONY: bench-study
bench-study: $(STAMP)  ## Granularity and update frequency on real products: docs/benchmarks/study.md (QUICK=1: minutes)
	$(BIN)/python -m tests.benchmarks.study --data $(DATA) $(if $(QUICK),--quick --home build/study-quick --out build/study-quick/report)

.PHONY: bench-provenance
bench-provenance: $(STAMP)  ## What each layer of provenance costs a picture, and what the watermark outlives
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.provenance --data $(DATA)

.PHONY: clean
clean:  ## Remove caches, build outputs and ./demo (never the environment or an archive)
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find catalog_pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
