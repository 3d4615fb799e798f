# Everything a newcomer needs: make train, make test. Each sets itself up; make help lists the rest.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
# on all cores; of the slow ones, those of a file together, as they share what is costly
FAST := $(PY) -m pytest -m "not slow and not wheel" --numprocesses auto --maxprocesses 4 --dist worksteal
SLOW := $(PY) -m pytest -m "(slow or wheel) and not boards" --numprocesses auto --maxprocesses 4 --dist loadfile
# 1: make experiments runs those with a teacher as well, which has to be installed
TEACHER ?= 0
PROGRAMS := labous-x86_64 labous-aarch64 labous-armv7l labous-riscv64
# extra settings for a run, e.g. make train ARGS="fit.epochs=60"
ARGS ?=

export PYTHONUTF8 := 1

.PHONY: help setup wasm train repro test test-fast test-devices fuzz lint wheel dist parity golden notebooks bench-mel bench-fit bench-prepare bench-device bench-birdnet experiments lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready .venv-tflite/.ready wasm ## create the environments and build the mel stage

$(VENV)/.ready: requirements.lock runtime/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "labous: error: Python %d.%d cannot be used; TensorFlow needs 3.11, 3.12 or 3.13: make PYTHON=python3.12 …" % v)'
	@echo "Setting up $(VENV) from requirements.lock …"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/# via/p' requirements.lock > $(VENV)/uv.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(BIN)/uv pip install --quiet --python $(PY) --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation -e runtime
	@touch $@

# tflite-runtime 2.14 needs numpy < 2 and has no wheel after Python 3.11: an environment of its own
.venv-tflite/.ready: requirements-tflite.lock $(VENV)/.ready
	@if python=$$($(BIN)/uv python find --no-python-downloads 3.11 2>/dev/null); then \
	  echo "Setting up .venv-tflite from requirements-tflite.lock …" && \
	  $(BIN)/uv venv --quiet --clear --python "$$python" .venv-tflite && \
	  $(BIN)/uv pip install --quiet --python .venv-tflite/bin/python --require-hashes -r requirements-tflite.lock; \
	else \
	  echo "There is no Python 3.11 here, which tflite-runtime 2.14 needs: the reports will say that it was not run." && \
	  mkdir -p .venv-tflite; \
	fi
	@touch $@

# the libraries that make bench-mel measures beside librosa: locked, like .venv-tflite, for Python 3.11
.venv-peers/.ready: requirements-peers.lock $(VENV)/.ready
	@if python=$$($(BIN)/uv python find --no-python-downloads 3.11 2>/dev/null) && \
	  echo "Setting up .venv-peers from requirements-peers.lock …" && \
	  $(BIN)/uv venv --quiet --clear --python "$$python" .venv-peers && \
	  $(BIN)/uv pip install --quiet --python .venv-peers/bin/python --require-hashes -r requirements-peers.lock; then :; \
	else \
	  echo "The peers cannot be installed here (they need Python 3.11 and wheels for this machine): make bench-mel will say so." && \
	  rm -rf .venv-peers && mkdir -p .venv-peers; \
	fi
	@touch $@

wasm: $(VENV)/.ready ## build the mel stage, melspec.wasm and the native libraries, from melspec_cpp/
	@$(PY) melspec_cpp/build.py

train: setup ## the main job: prepare, fit, export, validate, bundle, report (on the demo data unless ARGS says otherwise)
	@$(PY) -m training.train $(ARGS)

repro: setup ## the same through DVC
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

test: setup lint ## everything that can be tested on this machine, without whole boards
	@$(FAST) && $(SLOW)

test-fast: setup ## the fast tests, under two minutes
	@$(FAST)

test-devices: setup ## the mel stage, the model and the executable on emulated boards (needs qemu-user-static and libc6-*-cross)
	@LABOUS_REQUIRE_DEVICES=1 $(PY) -m pytest tests/devices

fuzz: setup ## the native mel stage under ASan and UBSan, a million calls of each build (needs g++ or clang)
	@$(PY) melspec_cpp/fuzz/fuzz.py $(ARGS)

lint: $(VENV)/.ready ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo 'labous: error: some files are not formatted; run .venv/bin/ruff format .'; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/mypy --python-version 3.10 runtime/src/labous

wheel: setup ## the device wheel, into dist/
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(PY) --out-dir dist runtime && ls -l dist/*.whl

dist: wheel ## the wheel, hear.wasm and the programs for boards of outputs/bundle, into dist/, and their SHA256SUMS
	@$(PY) -m training.aot outputs/bundle --out dist hear $(PROGRAMS)
	@cd dist && sha256sum *.whl hear.wasm $(PROGRAMS) > SHA256SUMS && cat SHA256SUMS

parity: setup ## librosa, native and wasm, compared on test signals
	@$(PY) -m training.parity

golden: setup ## check the committed golden vectors
	@$(PY) tests/parity/golden.py check

notebooks: setup ## execute the notebooks (after make train)
	@$(PY) -m pytest --nbmake --nbmake-timeout=300 notebooks

bench-mel: setup .venv-peers/.ready ## the mel stage against librosa and others: speed, start-up, streams
	@python=.venv-peers/bin/python; [ -x $$python ] || python=$(PY); $$python melspec_cpp/bench/bench_mel.py $(ARGS)

bench-fit: setup ## whether training waits for its batches
	@$(PY) -m training.bench.fit $(ARGS)

bench-prepare: setup ## what preparing costs: ten hours of demo recordings, native against librosa (about ten minutes)
	@$(PY) -m training.bench.prepare $(ARGS)

bench-device: setup ## what a station costs: CPU, memory, start, size, against BirdNET where it is (after make train; half an hour)
	@$(PY) runtime/bench/bench_device.py $(ARGS)

bench-birdnet: setup ## BirdNET as a bundle beside BirdNET itself: equality, speed, variants, engines (needs its files and recordings)
	@$(PY) -m training.bench.birdnet $(ARGS)

experiments: setup ## five folds of each experiment on real recordings (hours): make experiments ARGS="dataset.root=DIR"
	@$(PY) -m training.experiments common30_plain common30 $(if $(filter-out 0,$(TEACHER)),common30_teacher --peers) --jobs 2 $(ARGS)

lock: ## write requirements*.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock
	@printf 'audioflux\nessentia\nhydra-core\nkaldi-native-fbank\nlibrosa\nrich\ntqdm\nwasmtime\n' | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --constraints requirements.lock - -o requirements-peers.lock
	@printf 'tflite-runtime==2.14.*\nnumpy<2\n' | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o requirements-tflite.lock

clean: ## remove what runs leave behind (data, outputs, builds), not the environments
	@rm -rf data/raw data/prepared data/taught data/.*.journal.jsonl outputs build dist bench melspec_cpp/build runtime/src/labous/melspec.wasm
