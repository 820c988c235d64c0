# SPDX-License-Identifier: Apache-2.0
#
# Every target works on a fresh machine: it installs what is missing and builds what has changed first.
# Variables: PYTHON=/path (for the virtual environment), KERNEL=/path (the guest's kernel), TESTS="arguments of
# pytest", BENCH="more arguments of the benchmarks" (see bench/conftest.py).

SHELL := /bin/sh
.DEFAULT_GOAL := help

py := .venv/bin/python
export KERNEL

# What cffi writes starts with an underscore, and is nobody's to format.
generated := $(wildcard ovfs/*/_*.c tests/*/_*.c)
c_sources := $(filter-out $(generated),$(wildcard c/*.[ch] c/*/*.[ch] ovfs/*/*.[ch]))
test_sources := $(filter-out $(generated),$(wildcard tests/*/*.[ch]))
bench_sources := $(wildcard bench/*.c)
builders := $(wildcard ovfs/*/build_*.py tests/vmm/build_*.py) setup.py
python_paths := ovfs tests bench scripts setup.py

.PHONY: help demo demo-s3 test check asan tsan bench bench-quick bench-baseline bench-compare build packages kernel clean distclean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build kernel ## Boots a real guest on a directory served by ovfs, and shows that it works
	$(py) scripts/demo.py

demo-s3: build kernel ## The same on a bucket, with SeaweedFS as the S3 server
	$(py) scripts/demo_s3.py

test: build kernel ## Runs all tests (TESTS="-k name" chooses)
	$(py) -m pytest $(or $(TESTS),tests)

check: build ## Checks format, lint, types and compiler warnings; changes nothing
	.venv/bin/clang-format --dry-run -Werror $(c_sources) $(test_sources) $(bench_sources)
	gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -fsyntax-only -Ic \
		$(filter %.c,$(c_sources))
	.venv/bin/ruff format --check $(python_paths)
	.venv/bin/ruff check $(python_paths)
	.venv/bin/mypy ovfs tests bench scripts setup.py

asan: build ## Runs the suites that use the C half under AddressSanitizer and UBSan
	sh scripts/sanitize.sh address,undefined

tsan: build ## Runs the suites that use the C half under ThreadSanitizer
	sh scripts/sanitize.sh thread

bench: build kernel ## Measures; keeps the figures in bench/report and as JSON in .benchmarks
	$(py) -m pytest bench --benchmark-autosave $(BENCH)

bench-quick: build kernel ## The local ones with few and short rounds; nothing is judged
	$(py) -m pytest bench --ignore=bench/remote --quick --bench-report=.cache/bench-quick.md $(BENCH)

bench-baseline: build ## Saves what the local backend costs now, for bench-compare
	$(py) -m pytest bench/bench_local.py --quick --bench-report=.cache/bench-quick.md --benchmark-save=baseline $(BENCH)

bench-compare: build ## Fails where an operation costs more than SPREAD (default: 30%) above what was saved last
	$(py) -m pytest bench/bench_local.py --quick --bench-report=.cache/bench-quick.md \
		--benchmark-compare --benchmark-compare-fail=median:$(or $(SPREAD),30%) $(BENCH)

build: packages .cache/built ## Installs what is missing and compiles what has changed

packages:
	@sh scripts/packages.sh

kernel:
	@sh scripts/kernel.sh

.cache/venv: pyproject.toml scripts/venv.sh | packages
	sh scripts/venv.sh
	@mkdir -p .cache && touch $@

.cache/built: .cache/venv $(c_sources) $(filter tests/vmm/%,$(test_sources)) $(builders)
	sh scripts/build.sh .
	@touch $@

clean: ## Removes what was built; keeps the virtual environment and the guest's kernel
	rm -rf build .cache/built .cache/guest .mypy_cache .ruff_cache .hypothesis
	rm -f ovfs/*/_*.[co] ovfs/*/*.o ovfs/*/_*.so tests/vmm/_vmm.c tests/vmm/_vmm*.so
	find ovfs tests bench scripts -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Removes everything that git does not know
	rm -rf .venv .cache .benchmarks ovfs.egg-info
