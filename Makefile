# The commands of this repository. The first run makes .venv; later runs start at once.
# A Python of your choice:  make test PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help
.PHONY: help demo check test lint structure bench downstream docs reference clean
SHELL := /bin/sh

VENV := .venv
RUN := $(VENV)/bin
PROJECTS := pyproject.toml worker/pyproject.toml kernelspec/kernel.json
WORKER_PYTHONS := 3.10 3.13
# How many processes run tests. Each of them starts kernels of its own, and mostly waits for them.
WORKERS := 4

# Prints the first working interpreter of a list that has a venv module and for which a condition on sys.version_info holds.
# A name in PATH may be a version manager's shim that runs nothing, so each candidate is tried, not just looked up.
first_python = for python in $(1); do \
		"$$python" -c 'import ensurepip, sys, venv; v = sys.version_info[:2]; sys.exit(not ($(2)))' \
			>/dev/null 2>&1 && { echo "$$python"; break; }; \
	done

# uv is fast but reads none of pip's configuration: where only pip knows the way to a package index, pip does the work.
# Modules are compiled here, by all processors, and not by whatever imports them first.
install = $(1)/bin/python -m uv pip install --compile-bytecode --python $(1)/bin/python $(2) || { \
		echo "uv could not install; trying pip"; $(1)/bin/python -m pip install --quiet $(2); }

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-test ## Run notebooks with this kernel, kill its processes, and continue with their variables
	$(RUN)/python notebooks/demo.py

check: lint ## Check style and types, and run the fast tests (a minute each)
	$(RUN)/python -m pytest -m fast -n 2 --no-loadscope-reorder

test: $(VENV)/.installed-test ## Run all tests, and the worker's also on the oldest and a newer Python
	$(RUN)/python -m pytest -m "not perf" -n $(WORKERS) --no-loadscope-reorder
	$(RUN)/python -m pytest -m perf tests/engines
	@$(MAKE) --no-print-directory $(WORKER_PYTHONS:%=.worker-on-%)

lint: $(VENV)/.installed-lint ## Check style, format and types
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/mypy --python-version 3.10 worker

structure: $(RUN)/uv ## Show sizes, docstrings and retired words (it fails nothing)
	@$(RUN)/python tools/structure.py

bench: $(VENV)/.installed-test ## Measure against ipykernel, side by side
	$(RUN)/python benchmarks/run.py

downstream: .venvs/downstream/.installed ## Run the test suites of ipykernel, nbclient and others against this kernel (25 minutes)
	.venvs/downstream/bin/python -m tests.downstream.run

docs: $(VENV)/.installed-docs ## Build the documentation into out/docs; warnings are errors
	$(RUN)/python docs/generate.py --check
	$(RUN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs out/docs
	@echo "Open out/docs/index.html"

reference: $(VENV)/.installed-test ## Write the parts of docs/reference that come from the code
	$(RUN)/python docs/generate.py

clean: ## Remove environments, caches and build results
	rm -rf .venv .venvs .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist out worker/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN)/uv:
	@set -e; \
	python=$$($(call first_python,$(PYTHON) python3.12 python3.13 python3.14 python3 \
		"$$HOME"/.pyenv/versions/3.1[2-9]*/bin/python,v >= (3, 12))); \
	if [ -z "$$python" ]; then \
		echo "Capsule needs Python 3.12 or newer (with its venv module), and none was found."; \
		echo "Get one, for example: apt install python3.12 python3.12-venv, brew install python@3.12,"; \
		echo "pyenv install 3.12, or uv python install 3.12. Then: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version) ($$python)"; \
	"$$python" -m venv $(VENV); \
	$(RUN)/python -m pip install --quiet --upgrade pip uv

$(VENV)/.installed-test: $(RUN)/uv $(PROJECTS) kernelspec/kernel.json
	@$(call install,$(VENV),-e ./worker -e . --group test)
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	@$(call install,$(VENV),--group lint)
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-test
	@$(call install,$(VENV),--group docs)
	@touch $@

# The worker is installed into the user's environment, which may be older or newer than the front's own.
.PHONY: $(WORKER_PYTHONS:%=.worker-on-%)
$(WORKER_PYTHONS:%=.worker-on-%): .worker-on-%:
	@set -e; \
	if [ ! -d tests/worker_compat ]; then echo "SKIPPED  worker on Python $*: no tests/worker_compat"; exit 0; fi; \
	python=$$($(call first_python,.venvs/$*/bin/python python$* "$$HOME"/.pyenv/versions/$*.*/bin/python,\
		"%d.%d" % v == "$*")); \
	if [ -z "$$python" ]; then echo "SKIPPED  worker on Python $*: no such Python found"; exit 0; fi; \
	echo "Worker on $$("$$python" --version)"; \
	$(MAKE) --no-print-directory .venvs/$*/.installed WORKER_PYTHON="$$python"; \
	.venvs/$*/bin/python -m pytest tests/worker_compat

.venvs/downstream/.installed: $(PROJECTS) $(RUN)/uv
	@[ -x .venvs/downstream/bin/uv ] || { $(RUN)/python -m venv .venvs/downstream && \
		.venvs/downstream/bin/python -m pip install --quiet --upgrade pip uv; }
	@$(call install,.venvs/downstream,-e ./worker -e . --group downstream)
	@touch $@

.venvs/%/.installed: $(PROJECTS)
	@[ -x .venvs/$*/bin/uv ] || { "$(WORKER_PYTHON)" -m venv .venvs/$* && \
		.venvs/$*/bin/python -m pip install --quiet --upgrade pip uv; }
	@$(call install,.venvs/$*,-e ./worker --group test-worker)
	@touch $@
