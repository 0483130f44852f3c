# Index of commands: `make` lists them. Each sets up .venv first, on a machine with Python >= 3.11 and pip.
# torch is of the build that fits the machine; `make setup TORCH=gpu` takes the CUDA build of PyPI on any Linux machine.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo docs check fix test fuzz property mutants stubs serve build load peers chaos gpu-check conformance lock sbom pin-images stop clean

RECIPE ?= builder/recipes/promotions.toml
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
ABSORB := $(VENV)/bin/absorb

# onnxruntime and onnxruntime-gpu own the same module, so the driver decides which one is installed.
EXTRA := $(shell if [ -e /proc/driver/nvidia/version ] || nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi)
OTHER_RUNTIME := $(if $(filter gpu,$(EXTRA)),onnxruntime,onnxruntime-gpu)
INSTALLED := $(VENV)/.installed-$(EXTRA)

# Builds of torch for CPU and CUDA have one version and different hashes, so each has a list and an index of its own.
TORCH ?= $(EXTRA)
TORCH_INDEX ?= https://$(if $(filter Linux-cpu,$(shell uname -s)-$(TORCH)),download.pytorch.org/whl/cpu,pypi.org/simple)
# pip refuses a file whose hash is not listed. The lists are complete, and no package runs code to be built.
CHECKED := --quiet --quiet --no-cache-dir --require-hashes --no-deps --only-binary :all:
LISTS := $(patsubst %,requirements/%.txt,base build builder language load grpc kafka otel dev docs no-deps $(EXTRA))
NATIVE := service/native/libabsorb_native.so
TOOLS ?= var/tools
SBOM ?= var/sbom.json

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) $(NATIVE) ## install the pinned packages into .venv (gpu packages where there is an NVIDIA driver)

$(INSTALLED): pyproject.toml $(LISTS) requirements/torch-$(TORCH).txt
	@python=$${PYTHON:-}; \
	for name in python3.11 python3 python3.12 python3.13; do \
	    [ -z "$$python" ] || break; \
	    if $$name -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "setup: needs Python 3.11 or later with its venv module (Debian: python3-venv)," \
	        "found $$(python3 --version 2>&1 || true); name another with PYTHON=/path/to/python" >&2; \
	    exit 1; \
	fi; \
	rm -f $(VENV)/.installed-*; \
	$$python -m venv $(VENV)
	@$(PIP) uninstall --quiet --quiet --yes $(OTHER_RUNTIME)
	@echo "setup: installing the pinned packages into $(VENV); this takes minutes, and some GB with torch"
	@$(PIP) install $(CHECKED) $(addprefix --requirement ,$(LISTS))
	@$(PIP) install $(CHECKED) --index-url $(TORCH_INDEX) --requirement requirements/torch-$(TORCH).txt
	@$(PIP) install --quiet --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@
	@echo "setup: done"

# ziglang, 100 MB, is installed where there is no compiler. Where it is missing, too, the service runs without the library.
$(NATIVE): $(INSTALLED) $(wildcard service/native/*.[ch]) service/native/compile.py
	@[ -n "$${CC:-}" ] || command -v cc >/dev/null || $(PIP) install $(CHECKED) --requirement requirements/compiler.txt \
	    || echo "setup: found no C compiler, and ziglang does not install here" >&2
	@$(PY) -m service.native.compile >/dev/null \
	    || echo "setup: no native library; ONNX Runtime scores, more slowly" >&2

demo: setup ## build the cache from a real purchase log, serve it, rank candidates for one household
	@$(ABSORB) build builder/recipes/promotions.toml
	@$(ABSORB) demo

docs: setup ## build the documentation site into var/site; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "docs: open var/site/index.html, or run $(VENV)/bin/mkdocs serve"

check: setup ## check format, lint, types, import contracts and Dockerfiles
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/hadolint docker/*.Dockerfile

fix: setup ## format the code, and apply the linter's automatic fixes
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# The tests of a file run in one process, because many share a build or a server. Sorted by
# number of tests, as xdist does, e2e would start last: it has few tests, and they take longest.
test: setup ## run all tests on all cores; ARGS="..." goes to pytest
	$(PY) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

# Each run draws other requests. A failing request is printed, and the next run tries it first.
fuzz: setup ## send random requests, write hostile records and generation pointers, for minutes
	$(PY) -m tests.service.native.token_fuzz 1000000
	$(PY) -m pytest --numprocesses auto --dist load --timeout 3600 --hypothesis-profile fuzz $(ARGS) \
	    tests/service/test_app.py tests/service/v2/test_fuzz.py tests/service/v2/test_grpc_fuzz.py \
	    tests/service/state/test_hostile_records.py::test_no_hostile_record_breaks_the_service \
	    tests/service/generations/test_fuzz_pointers.py tests/service/follow/test_property.py \
	    tests/service/http/test_fuzz_events_and_items.py \
	    tests/service/transport/test_hostile_bodies.py::test_no_long_list_costs_much \
	    tests/service/runtime/engines/native/test_engine.py::test_scores_are_the_references_with_any_sizes \
	    tests/models/contract/test_plan.py::test_damaged_bytes_are_refused_or_a_whole_plan \
	    tests/models/contract/test_onnx_graph.py tests/builder/ingest/test_hostile_logs.py

# More than 5,000 steps of each kind of state: events, workers, kills, flips, lost streams; then orders of arrival.
property: setup ## compare folded states with rebuilt ones through thousands of random steps; log in var/property.log
	@mkdir -p var
	OMP_NUM_THREADS=1 nice $(PY) -m pytest --numprocesses 0 --capture no --timeout 7200 --hypothesis-profile fuzz $(ARGS) \
	    tests/service/follow/test_property.py tests/service/follow/test_order.py 2>&1 | tee var/property.log

# Not in CI: it takes hours. mutmut writes to mutants/ and runs one mutant at a time.
mutants: setup ## change one thing at a time in the critical code; a test must fail; ARGS="--sample 0 FILE"
	@$(PIP) install $(CHECKED) --requirement tests/mutants.txt
	OMP_NUM_THREADS=1 nice $(PY) -m tests.mutants $(ARGS)

stubs: setup ## generate the gRPC stubs from service/v2/inference.proto
	$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. service/v2/inference.proto

serve: setup ## run the service on what is in the cache
	$(ABSORB) serve

build: setup ## do every build step that is due; RECIPE=path/to/recipe.toml
	$(ABSORB) build $(RECIPE)

load: setup ## load-test the service on what is in the cache; fails above the p99 limit; ARGS="..."
	$(ABSORB) load $(ARGS)

peers: setup ## measure the service beside six other servers of the same model; ARGS="--quick"
	$(ABSORB) peers $(ARGS)

chaos: setup ## break cache, generations, service and clients under load; ARGS="--quick", "--list", "swaps"
	$(ABSORB) chaos $(ARGS)

gpu-check: setup ## check scores and times of the GPU path on this machine; ARGS="--quick"
	$(ABSORB) gpu-check run $(ARGS)

# Each client in a venv of its own, because their dependencies conflict. Triton's binary needs the Python 3.11 of Debian 12.
conformance: setup ## test with unmodified V2 clients, on this service and on a real Triton; ARGS="--v2-url host:port" on another server
	@install() { \
	    venv=var/conformance/$$1; \
	    [ -e $$venv/.installed ] || { \
	        $$2 -m venv $$venv && $$venv/bin/pip install --disable-pip-version-check --quiet "$${@:3}" && touch $$venv/.installed; \
	    } || { rm -rf $$venv; echo "conformance: $$1 does not install here; its tests are skipped" >&2; }; \
	}; \
	install kserve $(PY) kserve==0.21.0; \
	install mlserver $(PY) mlserver==1.7.1; \
	install triton /usr/bin/python3 nvidia-pytriton==0.7.0 'numpy<2'
	$(PY) -m pytest -rs tests/v2 $(ARGS)

# An environment of its own: what these tools need is not part of what they describe.
$(TOOLS)/.installed: requirements/tools.txt
	@python3 -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check install $(CHECKED) --requirement requirements/tools.txt
	@touch $@

lock: $(TOOLS)/.installed ## write requirements/*.txt, with hashes, from constraints.txt and pyproject.toml
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(TOOLS)/bin/python requirements/lock.py

sbom: setup $(TOOLS)/.installed ## write the bill of materials of .venv (CycloneDX) into var/sbom.json
	@$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	    --output-file $(SBOM) $(PY)
	@echo "sbom: $(SBOM)"

pin-images: ## add digests to the images of docker/ and docker-compose.yml; needs docker and a network
	@docker/pin-images.sh docker/*.Dockerfile docker-compose.yml

stop: ## stop the embedded cache (its content stays in var/cache)
	@if [ -x $(PY) ]; then $(PY) -c 'from pathlib import Path; from models.contract.embedded_cache import stop_server; \
	    print("stopped" if stop_server(Path("var/cache")) else "not running")'; fi

clean: stop ## remove .venv, tool caches and var/ (runs, artifacts, the embedded cache)
	rm -rf $(VENV) var .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
