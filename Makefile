# The first of these that is 3.11 or later.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null \
    && echo $$p && break; done)
BIN := .venv/bin

.PHONY: setup demo test check docs format clean

setup: .venv/.installed

# torch goes first and pinned: left to the resolver, a machine may fetch another build of several gigabytes.
.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "usrl needs Python 3.11 or later; give its path: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch $@

demo: setup
	rm -rf demo
	$(BIN)/usrl demo --out demo

# One thread each: threads of several processes would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4

test: setup
	$(PYTEST)

# A broken link or a missing reference fails. The theme's advice on its successor would hide that.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# What CI runs: the format, the lint rules, the types, the pages and everything that `make test` runs.
check: setup docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist demo site
