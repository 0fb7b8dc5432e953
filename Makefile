# Two commands do everything on a fresh machine: `make demo` and `make test`. `make test-all` adds the slow tests.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test test-all lint docs lock clean

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

# The package itself is installed as a link to this folder, so that a change needs no new installation.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# Needs pip-tools. A local build's suffix (+cpu) is cut off, so that the lock fits every platform.
lock:
	$(PYTHON) -m piptools compile --quiet --strip-extras --extra report --extra tensorboard --extra river --extra service --extra dev \
		--constraint constraints.txt --no-emit-index-url --no-emit-find-links \
		--output-file requirements.lock pyproject.toml
	sed -i 's/^torch==\([0-9.]*\)+.*/torch==\1/' requirements.lock

clean:
	rm -rf .venv runs
