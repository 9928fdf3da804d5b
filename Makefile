# make demo | make test | make wheel-test | make slurm-test | make bench | make soak | make lint | make format | make docs | make setup
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= 2

.PHONY: setup demo test wheel-test slurm-test bench soak lint format docs

setup: $(VENV)/.complete

# Install PyTorch first, pinned: a looser request downloads gigabytes of another build.
$(VENV)/.complete: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/asdpipe doctor --repair
	touch $@

demo: setup
	$(BIN)/snakemake --cores $(CORES) results/stage5/auc.csv
	@$(BIN)/asdpipe table results/demo/raw_logmel/seed0/stage1/auc.csv results/stage1/auc.csv results/stage2/auc.csv \
		results/stage3/auc.csv results/stage4/auc.csv results/stage5/auc.csv
	$(BIN)/snakemake --cores $(CORES) results/report.html
	@echo "report, for a browser:    results/report.html"
	@echo "AUC, as printed above:    results/stage{1..5}/auc.csv"
	@echo "score of every test clip: results/stage5/scores.csv"
	@echo "next:                     $(BIN)/asdpipe explain results/stage5/auc.csv; your own machines, DCASE: README.md"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

# Run the first jobs of the demo from a wheel, in an environment that does not see this checkout.
wheel-test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak tests/test_wheel.py

# Start a SLURM of one node (Debian's packages; root); skipped with the reason where that is not possible. Stops after 45 minutes.
slurm-test: setup
	OMP_NUM_THREADS=1 timeout --signal=INT --kill-after=2m 45m $(BIN)/python -m pytest -m slurm tests/slurm

# Killed runs and bad input at full length: up to half an hour.
soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak

bench: setup
	$(BIN)/python -m benchmarks.bench --threads $(CORES)
	$(BIN)/python -m benchmarks.transformers --threads $(CORES)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check --compact-diff .
	$(BIN)/snakemake --lint
	$(BIN)/python tools/write_docs.py --check

# Tables, pictures (Graphviz is needed where the rules have changed) and the site, in site/.
docs: setup
	$(BIN)/python tools/write_docs.py
	$(BIN)/python -m tools.pictures
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html; with search: $(BIN)/python -m http.server -d site"

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt .
