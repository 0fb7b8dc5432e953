# Two commands do everything on a fresh machine: `make demo` and `make test`. `make test-all` adds the slow tests.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
DEMO := runs/demo
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --no-deps --require-hashes
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --default-index https://pypi.org/simple

.PHONY: demo test test-all lint docs site lock audit clean

# One thread: to share such small steps out takes longer than to make them as soon as another process wants a core.
demo: export OMP_NUM_THREADS = 1
demo: .venv/installed
	rm -rf $(DEMO)
	$(BIN)/synergy run --dataset rot-digits --model sgd --load_best_args --output_dir $(DEMO) --experiment_id sgd
	$(BIN)/synergy run --dataset rot-digits --model er --buffer_size 200 --load_best_args --output_dir $(DEMO) --experiment_id er
	$(BIN)/synergy run --dataset rot-digits --model synergy --buffer_size 200 --load_best_args --output_dir $(DEMO) --experiment_id synergy
	$(BIN)/synergy report $(DEMO)/synergy $(DEMO)/er $(DEMO)/sgd --picture $(DEMO)/accuracy.png

# One process for each core, one thread for each process.
test test-all: export OMP_NUM_THREADS = 1
test: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-all: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tables, rules and options that the pages take from the code. A test says when they are out of date.
docs: .venv/installed
	$(BIN)/python -m docs.generate

# The site, in site/. A warning is an error; the network is not needed.
site: .venv/installed
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Every file is checked against its hash in the locks, the build backend's as well.
# torch comes first: the build that pip is set up for here (CPU or CUDA) if the lock knows it, else one that the lock knows.
# uv installs the rest in a fraction of pip's time; where it finds no index (it does not read pip's settings), pip does.
# A CUDA build needs packages of its own. The package itself is a link to this folder: a change needs no new installation.
.venv/installed: requirements.lock requirements-cuda.lock pyproject.toml
	$(PYTHON) -m venv .venv
	awk '/^[a-z]/ {of_torch = /^torch==/} of_torch' requirements.lock > .venv/torch.lock
	awk '/^[a-z]/ {of_torch = /^torch==/} !of_torch' requirements.lock > .venv/rest.lock
	awk '/^[a-z]/ {of_uv = /^uv==/} of_uv' requirements.lock > .venv/uv.lock
	$(PIP) download --no-deps --only-binary :all: --dest .venv/torch $$(grep -o '^torch==[0-9.]*' .venv/torch.lock)
	$(INSTALL) --no-index --find-links .venv/torch --requirement .venv/torch.lock || $(INSTALL) --requirement .venv/torch.lock
	rm -r .venv/torch
	$(INSTALL) --requirement .venv/uv.lock
	$(UV) --requirement .venv/rest.lock || $(INSTALL) --requirement .venv/rest.lock
	if $(PIP) show torch | grep -q '^Requires: .*nvidia'; then $(INSTALL) --requirement requirements-cuda.lock; fi
	PYTHONWARNINGS=ignore $(PIP) install --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $@

# Needs uv.
lock:
	$(PYTHON) supply_chain/lock.py

audit: .venv/installed
	$(BIN)/python supply_chain/audit.py

clean:
	rm -rf .venv runs
