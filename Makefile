# make demo   search, pack and run a small ticket        make test   the whole test-suite, ruff and mypy
# make bench  the benchmarks                             make native  the C++ tests: sanitizers, aarch64 in qemu
# make wheel-test  the built wheel, elsewhere            make fuzz   coverage-guided fuzzing, FUZZ_SECONDS a target
# make rtl    the hardware, simulated by Verilator       make qemu-networks  whole int8 networks on aarch64 in qemu
# make clean  removes all but the environment
#
# PYTHON names the interpreter (3.11 or later); PIP_ARGS goes to every pip install, for instance
# PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for torch without its 2 GB of CUDA libraries.

PYTHON ?= python3
PIP_ARGS ?=
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
SOURCES := setup.py $(wildcard csrc/*.*)

.PHONY: demo test lint bench native qemu-networks rtl sanitize fuzz wheel-test clean

# The environment. A stamp in it is newer than what it was made from, so nothing is done twice.

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON")'
	$(PYTHON) -m venv $(VENV)

EXTRAS = t['project']['optional-dependencies']
LISTED = $(BIN)/python -c "import tomllib; t = tomllib.load(open('pyproject.toml', 'rb')); print(*$(1), sep='\n')"

$(VENV)/.tools: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the build tools into $(VENV)"
	@$(call LISTED,t['build-system']['requires']) > $(VENV)/tools.txt
	$(PIP) wheel -r $(VENV)/tools.txt
	@touch $@

# Without build isolation the objects in build/ stay valid from one build to the next.
$(VENV)/.search: $(VENV)/.tools $(SOURCES)
	@echo "Building slt-infer and installing what search needs (torch: minutes the first time)"
	$(PIP) --no-build-isolation -e '.[search]'
	@touch $@

$(VENV)/.test: $(VENV)/.search
	@echo "Installing what the tests need"
	@$(call LISTED,(r for e in $(EXTRAS).items() if e[0] not in ('peers', 'ray') for r in e[1])) > $(VENV)/test.txt
	$(PIP) -r $(VENV)/test.txt
	@touch $@

# Without them the tests that need them are skipped.
$(VENV)/.peers: $(VENV)/.test
	@echo "Installing the engines to compare with (about 300 MB)"
	@$(call LISTED,$(EXTRAS)['peers']) > $(VENV)/peers.txt
	$(PIP) -r $(VENV)/peers.txt
	@touch $@

# demo/ keeps the run and the packed file, to look at.
demo: $(VENV)/.search
	@rm -rf demo && mkdir demo
	@echo; echo "1. Search a ticket in a random network, on scikit-learn's digits; half of the weights are removed"
	$(BIN)/slt-train --recipe mlp-digits --epochs 25ep --threads $(JOBS) --out demo/runs
	@echo; echo "2. Pack it: a seed, the coded mask, a scale and a shift per neuron, no weights"
	$(BIN)/slt-export demo/runs/*/ -o demo/digits.slt
	@echo; echo "3. Run the packed file: weights are made anew from the seed, products are additions"
	$(BIN)/slt-run demo/digits.slt --data digits --against demo/runs/*/
	@echo; echo "4. Check every checksum, and see what is inside"
	$(BIN)/slt-inspect demo/digits.slt

# One thread per process: the tests themselves run in parallel.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n $(JOBS) -q

# mypy reads the packages as they are installed: kernels/ and tools/ inside slt_infer.
lint: $(VENV)/.test
	$(BIN)/ruff check .
	@rm -rf build/typing && mkdir -p build/typing/slt_infer
	@cd build/typing/slt_infer && ln -s ../../../slt_infer/* ../../../kernels ../../../tools .
	cd build/typing && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p slt_infer

bench: $(VENV)/.peers
	$(BIN)/slt-bench codec
	$(BIN)/slt-bench networks
	$(BIN)/slt-bench kernels

# The C++ tests without Python: as compiled for this machine, under the address and undefined-behaviour sanitizers, and
# for aarch64 in qemu where the cross compiler is there.
NATIVE = $(BIN)/python csrc/build.py native --target
CROSS := $(and $(shell command -v aarch64-linux-gnu-g++),$(shell command -v qemu-aarch64))
native: $(VENV)/.tools
	$(NATIVE) x86
	$(NATIVE) asan
	$(if $(CROSS),$(NATIVE) aarch64,@echo "aarch64 left out: apt-get install g++-aarch64-linux-gnu qemu-user")

# NEON, with and without dotprod, by the Python tests of whole int8 networks. Takes minutes and 500 MB, so CI leaves it.
qemu-networks: $(VENV)/.tools
	$(BIN)/python csrc/emulate.py

# rtl/ against the reference, which `make test` does too where verilator is installed.
rtl: $(VENV)/.test
	@command -v verilator > /dev/null || { echo "apt-get install verilator yosys"; exit 1; }
	$(BIN)/python -m pytest -q tests/rtl

# The Python tests of files, masks and kernels on a module compiled with the sanitizers, damaged files among them.
# Leaks are not looked for: the interpreter has its own.
SANITIZED := $(addprefix $(CURDIR)/tests/,format codec $(addprefix runtime/test_,operators.py int8_operators.py int8_plan.py))
sanitize: export OMP_NUM_THREADS = 1
sanitize: $(VENV)/.test
	CXXFLAGS="$$($(BIN)/python csrc/build.py sanitize)" LDFLAGS="-fsanitize=address,undefined" \
	    $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	cd build/sanitize && PYTHONPATH=lib ASAN_OPTIONS=detect_leaks=0 \
	    LD_PRELOAD="$$(for lib in asan ubsan stdc++; do $${CXX:-g++} -print-file-name=lib$$lib.so; done | paste -sd ' ')" \
	    $(CURDIR)/$(BIN)/python -P -m pytest -n $(JOBS) -q -p no:cacheprovider $(SANITIZED)

# The decoders, the encoder and the reader, FUZZ_SECONDS each; corpora and findings stay in build/fuzz. Needs clang
# and libclang-rt-VERSION-dev. The reader's target is guided by coverage where atheris can be installed, else blind.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/.test
	-$(PIP) --only-binary :all: atheris
	$(BIN)/python fuzz/run.py --seconds $(FUZZ_SECONDS)

# The wheel in an environment of its own with the core dependencies alone, from a folder without the sources.
WHEEL_TESTS := $(filter-out %/native %/repository %/rtl %/search %/vectors,$(wildcard $(CURDIR)/tests/*))
wheel-test: export OMP_NUM_THREADS = 1
wheel-test: $(VENV)/.tools
	@rm -rf build/wheel build/lib* build/bdist* && mkdir -p build/wheel/elsewhere
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	    "$$(echo build/wheel/*.whl)" pytest pytest-xdist hypothesis
	cd build/wheel/elsewhere && ../venv/bin/python -c \
	    "import slt_infer, sys; assert slt_infer.__file__.startswith(sys.prefix), slt_infer.__file__"
	cd build/wheel/elsewhere && ../venv/bin/slt-inspect --help > /dev/null && ../venv/bin/slt-run --help > /dev/null
	cd build/wheel/elsewhere && ../venv/bin/python -m pytest -n $(JOBS) -q -p no:cacheprovider $(WHEEL_TESTS)

clean:
	rm -rf build dist demo *.egg-info slt_infer/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(VENV)/.tools $(VENV)/.search $(VENV)/.test $(VENV)/.peers
