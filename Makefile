# make demo   install and enlarge a sample picture
# make test   install and run all tests; of the quick ones, how much of the code they reach
# make check  formatting, lint, types, import directions
# make docs   the man page and the site of docs/, from the help texts
# make lowest-test  quick tests of files and kernels with the lowest versions of packages that are allowed
# make torture  damaged files by the thousand: make torture COUNT=10000 SEED=7
# make gpu-check  a GPU's answers, speed and memory; "not run" where there is none
# make audit  known vulnerabilities of the pinned packages

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet
# To install the smaller build of torch without CUDA:
#   make demo TORCH_INDEX="--index-url https://download.pytorch.org/whl/cpu"
TORCH_INDEX ?=
TORCH = $(shell grep '^torch==' constraints.txt)

# Quick tests run in several processes, each file's in one; slow ones, which measure memory and kill programs, do not.
AT_ONCE = -n logical --maxprocesses 4 --dist loadfile

.PHONY: demo test check docs wheel-test lowest-test torture audit gpu-check clean

demo: $(VENV)/.run
	@$(BIN)/emt upscale samples/cat.png --scale 4 --model emt-lite --compare -y -o demo/
	@echo "Done. Look at demo/cat_x4.png, and at demo/cat_x4_compare.png: bicubic left, EMT right."

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(AT_ONCE) --cov --cov-report term
	$(BIN)/python -m pytest -m "slow and not wheel"

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy --platform win32
	$(BIN)/mypy --platform darwin
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python docs/help_pages.py > docs/emt.1
	$(BIN)/mkdocs build --strict

wheel-test: $(VENV)/.dev
	$(BIN)/python -m pytest -m wheel

lowest-test: $(VENV)/.dev
	@$(PYTHON) -m venv $(VENV)-lowest
	@$(BIN)/python tests/lowest_versions.py > $(VENV)-lowest/constraints.txt
	@$(VENV)-lowest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(VENV)-lowest/bin/python -m pip install --quiet "$(TORCH)" $(TORCH_INDEX)
	@$(VENV)-lowest/bin/python -m pip install --quiet -c $(VENV)-lowest/constraints.txt -e ".[heif]" \
		pytest pytest-xdist hypothesis scikit-image
	$(VENV)-lowest/bin/python -m pytest $(AT_ONCE) tests/media tests/engine/test_engine_native.py tests/test_cli.py

COUNT ?= 1000
SEED ?= 0

torture: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/campaign.py --count $(COUNT) --seed $(SEED)

audit: $(VENV)/.dev
	@$(PIP) pip-audit
	$(BIN)/pip-audit -r constraints.txt

gpu-check: $(VENV)/.dev
	$(BIN)/python tests/gpu_check.py

clean:
	rm -rf $(VENV) $(VENV)-lowest demo dist site torture

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make demo PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV) (torch is large: this takes some minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "No venv module: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@$(PIP) --upgrade "pip>=25.1"
	@$(PIP) "$(TORCH)" $(TORCH_INDEX)
	@$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(PIP) -c constraints.txt -e ".[cpu,export,heif,jxl,raw,ray,train]" --group dev --group docs
	@touch $@
