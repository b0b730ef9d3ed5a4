# make run     the engine in the foreground; everything it needs is set up first
# make test    the tests, on a PostgreSQL and a Redis of their own
# make lint    style, types, and the floors of the architecture
# make audit   whether a package that is pinned here has a known vulnerability
# make bench   how fast it is, as ratios to what the machine can do
# make fuzz    20,000 requests that nobody thought of; every night, say (FUZZ_REQUESTS, FUZZ_SEED)
# make stack-test   the tests of the API through nginx, PgBouncer and a replica; ten reloads under load
# make screenshots   the pictures of docs/images, of a simulated fleet
# make docs    write .env.example, the README's settings and tables of docs/api.md anew, from the code

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test stack-test lint audit bench fuzz screenshots docs

run: $(VENV)/installed-run
	@exec $(BIN)/python -m energy_engine.local.run

test: $(VENV)/installed-dev
	@$(BIN)/python -m tests.system_packages
	$(BIN)/pytest --numprocesses=auto --dist=loadgroup $(ARGS)

stack-test: $(VENV)/installed-dev
	@$(BIN)/python -m tests.system_packages nginx openssl pgbouncer
	STACK_TEST_RELOADS=10 $(BIN)/pytest tests/stack $(ARGS)
	$(BIN)/pytest -p tests.stack.through --through-stack $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	SECRET_KEY=lint DATABASE_URL=postgresql://lint/lint $(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

audit: $(VENV)/installed-dev
	@$(BIN)/python -m tests.audit

bench: $(VENV)/installed-dev
	@$(BIN)/python -m tests.system_packages wrk cc
	@$(BIN)/python -m tests.benchmarks

fuzz: export FUZZ_REQUESTS ?= 20000
fuzz: export FUZZ_SEED ?= $(shell date +%Y%m%d)
fuzz: $(VENV)/installed-dev
	@echo "FUZZ_REQUESTS=$$FUZZ_REQUESTS FUZZ_SEED=$$FUZZ_SEED"
	$(BIN)/pytest tests/engine/test_fuzz.py --capture=no $(ARGS)

screenshots: $(VENV)/installed-dev
	@$(BIN)/python -m tests.system_packages chromium libatomic.so.1
	$(BIN)/python -m tests.browser.screenshots

docs: $(VENV)/installed-run
	$(BIN)/python -m energy_engine.environment
	@SECRET_KEY=docs DATABASE_URL=postgresql://docs/docs $(BIN)/python manage.py shell --verbosity=0 \
		--command='from energy_engine.api import api_reference; api_reference.write_document()'

# pip is what venv installs last: without it, what is there is half of one, and is made anew.
$(BIN)/pip:
	@echo "Setting up $(VENV) …"
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is missing: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with PYTHON=…")'
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "Python can't set up a virtual environment: sudo apt-get install python3-venv"; exit 1; }

$(VENV)/installed-run: requirements.txt | $(BIN)/pip
	@echo "Installing what the engine needs (once) …"
	@$(PIP) install --requirement requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements.txt | $(BIN)/pip
	@echo "Installing what the tests need (once) …"
	@$(PIP) install --requirement requirements-dev.txt
	@touch $@ $(VENV)/installed-run
