# make demo   a base model becomes one that answers, in two minutes on two cores
# make test   the whole test suite, in the same environment
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# one worker a core, up to four; `make test WORKERS=` runs everything in one process
WORKERS ?= --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: demo test check clean

demo: $(INSTALLED)
	$(VENV)/bin/instil demo

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest $(WORKERS)

check: $(INSTALLED)
	./check

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "instil needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V); run: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian run: apt install python3-venv"; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
