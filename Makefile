# `make help` lists the words. PYTHON=... chooses the interpreter, ARGS=... goes to the program
# that the word runs, V=1 shows what pip and ninja say.
PYTHON ?= python3
ARGS ?=
DEV ?= build/dev
environment = $(PYTHON) tools/environment.py
bin = .venv/bin
# A worker per core: much of the suite waits for processes of its own.
pytest = -W error -m pytest --numprocesses=auto --maxprocesses=8
native = $(wildcard src/*.cpp src/*.hpp src/*/*.cpp src/*/*.hpp)

.PHONY: help run build wheel dev test alike faults guards fuzz-tls conformance ecosystem lint format asan bench instructions docs clean
help:
	@echo 'make run      install what is missing, build, and run a service: on watchers, then on asyncio'
	@echo 'make test     the test suite'
	@echo "make conformance  CPython's own tests of asyncio, on our event loop and on others"
	@echo 'make alike    thousands of random programs and conversations, on asyncio and on pyev'
	@echo 'make ecosystem  the own tests of twelve projects that are built on asyncio'
	@echo 'make faults   the failure modes and leaks on every backend, io_uring too; 10000 failed spawns'
	@echo 'make guards   that tests fail without what they guard, a build for each: half an hour'
	@echo "make fuzz-tls  TLS with mutated peers: ARGS='--conversations 1000000'"
	@echo 'make lint     formatting, style, types and layers'
	@echo 'make format   let the formatters have their way'
	@echo 'make asan     the test suite under AddressSanitizer and UBSan'
	@echo "make bench    the benchmarks, beside other event loops: ARGS='--suite asyncio --quick'"
	@echo "make instructions  what operations cost, by callgrind, beside the record: ARGS=--record"
	@echo 'make docs     the documentation, into site/'
	@echo 'make wheel    the wheel to install elsewhere, with libev in it, tried; into dist/'
	@echo 'make build    install what is missing, and pyev itself into .venv'
	@echo 'make dev      an incremental build for PYTHONPATH, into DEV=directory'
	@echo 'make clean    remove everything that make has made'
	@echo 'PYTHON=python3.13 chooses the interpreter, ARGS="-k timer" is passed on, V=1 says more.'

run:
	@$(environment) .venv examples
	@$(bin)/python examples/service.py $(ARGS)
	@$(bin)/python examples/service_aio.py $(ARGS)

build:
	@$(environment) .venv

wheel:
	@$(environment) .venv-wheel wheel --profile
	@.venv-wheel/bin/python tools/wheel.py $(ARGS)

dev:
	@PYTHON=$(PYTHON) tools/dev-build $(DEV)

# TLS is done in two ways. Which one a process has is settled early: the other one is another run.
test:
	@$(environment) .venv test
	$(if $(ARGS),,@PYEV_TLS=stdlib $(bin)/python $(pytest) -q -k "pyev or fuzz or alike" tests/net/test_tls*.py tests/net/test_alike_tls*.py)
	@$(bin)/python $(pytest) $(ARGS)

conformance:
	@$(environment) .venv test --testsuite
	@$(environment) .venv-loops loops --no-pyev
	@$(bin)/python tools/conformance.py --peers .venv-loops/bin/python $(ARGS)

ecosystem:
	@$(environment) .venv-ecosystem --ecosystem
	@.venv-ecosystem/bin/python tools/ecosystem/run.py $(ARGS)

alike:
	@$(environment) .venv test
	@PYEV_TEST_EXAMPLES=$${PYEV_TEST_EXAMPLES:-3000} $(bin)/python $(pytest) --timeout=1800 \
		tests/aio tests/net -k alike $(ARGS)

faults:
	@$(environment) .venv test
	@PYEV_TEST_IO_URING=1 PYEV_TEST_SPAWNS=10000 $(bin)/python -W error -m pytest \
		tests/faults tests/leaks tests/aio/test_subprocess.py $(ARGS)

guards:
	@$(environment) .venv test
	@$(bin)/python tests/faults/without_guards.py $(ARGS)

fuzz-tls:
	@$(environment) .venv test
	@PYTHONMALLOC=malloc $(bin)/python tests/net/tls_fuzz.py $(ARGS)

lint:
	@$(environment) .venv lint --no-pyev
	$(bin)/clang-format --dry-run -Werror $(native)
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy
	$(bin)/python -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider -p no:asyncio --noconftest tests/test_layers.py

format:
	@$(environment) .venv lint --no-pyev
	$(bin)/clang-format -i $(native)
	$(bin)/ruff check --fix
	$(bin)/ruff format

asan:
	@$(environment) .venv-asan test --sanitize
	@tools/sanitized .venv-asan/bin/python $(pytest) --timeout=900 $(ARGS)

bench:
	@$(environment) .venv-bench bench --bench --profile
	@.venv-bench/bin/python bench/run.py $(ARGS)

instructions:
	@$(environment) .venv test --valgrind
	@$(bin)/python bench/instructions.py $(ARGS)

docs:
	@$(environment) .venv docs
	@NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict $(ARGS)

clean:
	rm -rf build dist site bench/results
	rm -rf .venv .venv-asan .venv-bench .venv-ecosystem .venv-loops .venv-wheel
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
