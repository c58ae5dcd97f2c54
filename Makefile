# make demo    train the demo's base model to answer; two minutes on two cores
# make test    run all tests, in the same environment
# make long    run the tests that CI runs after make test: lessons, commands of the pages, whole ways; as long again
# make slow    list the 30 longest tests of the last run of make test
# make check   run format, lint, types and fast tests
# make course  write the notebooks of the course to build/course; make course-run runs every lesson
# make docs    build the docs site in three languages; EXECUTE=1 runs the course's lessons for it
# make serve-docs         build it, and serve it to this machine alone
# make docs-translations  add new and changed sentences to the translators' catalogues
# make clean   remove the environment and build outputs
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
DOCS_PORT ?= 8080
# One worker more than cores, up to four, because some tests wait. `make test WORKERS=` runs all tests in one process.
WORKERS ?= --numprocesses $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))') --dist worksteal

# Tests start Python hundreds of times: what one start compiles, the next loads, also where the environment says no.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test long check course course-run docs serve-docs docs-translations clean slow

demo: $(INSTALLED)
	$(VENV)/bin/instil demo

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest $(WORKERS) --junit-xml build/tests.xml

long: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m long $(WORKERS) --junit-xml build/long-tests.xml

slow:
	@$(PYTHON) tools/slow_tests.py

check: $(INSTALLED)
	./check

course: $(INSTALLED)
	$(VENV)/bin/python course/make_notebooks.py

course-run: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m long tests/course

docs: $(INSTALLED)
	$(VENV)/bin/python docs/make_site.py $(if $(EXECUTE),--execute)

serve-docs: docs
	$(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory build/site $(DOCS_PORT)

docs-translations: $(INSTALLED)
	$(VENV)/bin/python docs/make_translations.py

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V). instil needs Python 3.11 or newer. Run: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) -m venv failed. On Debian, run: apt install python3-venv"; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
