# make run     set up what the engine needs, and run it in the foreground
# make test    run the tests, on their own PostgreSQL and Redis
# make lint    check style, types, and imports between floors
# make audit   check pinned packages for known vulnerabilities
# make bench   measure speed, as ratios to what the machine can do
# make fuzz    send 20,000 random requests, for example every night (FUZZ_REQUESTS, FUZZ_SEED)
# make stack-test   run the API tests through nginx, PgBouncer and a replica; ten reloads under load
# make screenshots  take the pictures in docs/images, of a simulated fleet
# make docs    generate .env.example, the README's settings and the tables of docs/api.md

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
		--command='from energy_engine.api import api_reference; api_reference.write_documents()'

# venv installs pip last: without pip, the environment is incomplete and is created again.
$(BIN)/pip:
	@echo "Setting up $(VENV) …"
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is missing. Run: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=… to select one")'
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "Python can't create a virtual environment. Run: sudo apt-get install python3-venv"; exit 1; }

$(VENV)/installed-run: requirements.txt | $(BIN)/pip
	@echo "Installing the engine's packages (once) …"
	@$(PIP) install --requirement requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements.txt | $(BIN)/pip
	@echo "Installing the packages for tests (once) …"
	@$(PIP) install --requirement requirements-dev.txt
	@touch $@ $(VENV)/installed-run
