# Development tasks; `make help` lists them. Each task first makes what it needs: build environments and generated files
# under build/, an environment with goproc installed in $(VENV).
#
# Paths in the rules are relative, because the folder of the project may have spaces in its name.

# Variables to set on the command line:
PYTHON ?= python3
VENV ?= .venv
# further arguments of the program that a target runs, as in: make test-python ARGS="-k pool -x"
ARGS ?=
# of `make chaos`: for how many minutes new rounds are begun, and the seed of the random choices (random if empty)
MINUTES ?= 1
SEED ?=
# of `make chaos`: how many processes that use locks, and then queues, are killed
KILLS ?= 1000
# of `make chaos-cluster`: how many tasks are given out
TASKS ?= 50000
# of `make fuzz`: the time for each fuzz target
FUZZTIME ?= 30s
# of `make faults`: the page whose table is replaced (if empty, as in FAULTS_PAGE=, the table is only printed)
FAULTS_PAGE ?= docs/reliability.md
# of `make wheels`: the processors that wheels are built for (all that are supported if empty)
MACHINES ?=
# of `make release`: the version, X.Y.Z
VERSION ?=
# of `make check-weekly`: the targets that it runs
WEEKLY ?= chaos chaos-cluster faults fuzz sanitize check-models thirdparty test-disabled test-all test-wheels test-aarch64
# the environment for the benchmarks: goproc and the libraries that it is compared with
BENCH_VENV ?= .venv-bench
# the environment for `make bench-cluster`: goproc, Dask and Ray
BENCH_CLUSTER_VENV ?= .venv-bench-cluster

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_QUIET = 1
export GOWORK = off

# The ABI and a checksum of the interpreter's path: two interpreters of one version have different environments.
PYTAG := $(shell "$(PYTHON)" -c 'import os, sys, sysconfig, zlib; \
	print("%s-%08x" % (sysconfig.get_config_var("SOABI"), zlib.crc32(os.path.realpath(sys.executable).encode())))' 2>/dev/null)
# The interpreter's tag in a wheel's name, such as cp311.
CPYTHON = $(shell "$(PYTHON)" -c 'import sys; print("cp%d%d" % sys.version_info[:2])' 2>/dev/null)
BUILD_ENV := build/env-$(PYTAG)
# Only pyproject.toml pins the packages that the build needs.
BUILD_REQUIRES := $(shell sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | sed 's/", "/" "/g')
WHEELS := build/wheels-$(PYTAG)
RUN := $(VENV)/bin/python
GO_LINT := go tool -modfile=build_support/lint/go.mod

##@ To use

.PHONY: demo
demo: install ## build, install into .venv, and run every example on the engine
	$(RUN) examples/demo.py $(ARGS)

.PHONY: install
install: $(VENV)/$(PYTAG) wheel-for-venv ## build and install into .venv (another one: VENV=folder)
	$(RUN) -m pip install --force-reinstall --no-deps $(WHEELS)/goproc-*.whl

.PHONY: wheel
wheel: wheel-for-venv ## build a wheel for PYTHON into dist/
	mkdir -p dist
	cp $(WHEELS)/goproc-*.whl dist/

.PHONY: wheels
wheels: ## build manylinux wheels into dist/, for x86-64 and aarch64 and every CPython that is there or can be obtained
	@sh build_support/each_python.sh wheels-of-python
	@"$(PYTHON)" build_support/wheels/build.py list

.PHONY: wheels-of-python
wheels-of-python: $(BUILD_ENV)/wheels-stamp
	$(BUILD_ENV)/bin/python build_support/wheels/build.py build $(MACHINES)

.PHONY: release
release: $(BUILD_ENV)/wheels-stamp ## make a release without publishing it: VERSION=X.Y.Z, see RELEASING.md
	$(BUILD_ENV)/bin/python build_support/release.py $(if $(VERSION),"$(VERSION)",) $(ARGS)

.PHONY: check-dist
check-dist: $(BUILD_ENV)/wheels-stamp ## check the files in dist/ as a package index does
	$(BUILD_ENV)/bin/python -m twine check --strict dist/*.whl dist/*.tar.gz

.PHONY: sdist
sdist: $(BUILD_ENV)/stamp ## pack the source distribution into dist/
	$(BUILD_ENV)/bin/python setup.py --quiet sdist

.PHONY: build
build: $(BUILD_ENV)/stamp ## compile the two extensions for PYTHON (default python3) into python/goproc
	$(BUILD_ENV)/bin/python setup.py --quiet build_ext --inplace

.PHONY: prerequisites
prerequisites: ## print what this machine lacks for building, and how to get it
	@sh build_support/check_prerequisites.sh all "$(PYTHON)"

##@ To test

.PHONY: test
test: test-go test-python conformance ## all tests for PYTHON: Go with the race detector, pytest, CPython's own suite

.PHONY: test-go
test-go: prerequisites ## Go's tests, with the race detector
	CGO_ENABLED=1 go test -race ./...

.PHONY: test-python
test-python: install-test ## pytest on the installed wheel, in two shares at the same time
	$(RUN) tests/shares.py $(ARGS)

.PHONY: test-quick
test-quick: install-test ## pytest without the slow tests, each with one of its start methods and other parameters: under two minutes
	$(RUN) tests/shares.py -m "not slow" --one-variant $(ARGS)

# The tests of the parts that depend most on the version of Python.
BRIEF = tests/examples $(addprefix tests/unit/test_,$(addsuffix .py,cli context derived_classes exit_order \
	files_out_of_reach fork forkserver futures_end imports install installation locks main_death mocks monkeypatches \
	native nursery odd_timeouts own_buffers parts_of_objects polling pool pool_arrays pool_callbacks pool_messages \
	process queue_ends queue_pool queue_types queues replaced_picklers replaced_starters sibling spawn_server \
	tracebacks tracker))

.PHONY: test-brief
test-brief: install-test ## quick tests of the parts that depend most on the version of Python; CI runs them for each
	$(RUN) tests/shares.py -m "not slow" $(BRIEF) $(ARGS)

.PHONY: test-disabled
test-disabled: install-test ## the quick tests with each part of GOPROC_DISABLE switched off (PARTS="clones standby")
	@set -e; for part in $(or $(PARTS),$$($(RUN) -c "from goproc._common.switches import PARTS; print(*PARTS)")); do \
		echo "=== GOPROC_DISABLE=$$part"; \
		GOPROC_DISABLE=$$part $(RUN) -m pytest -m "not slow" tests/unit tests/examples $(ARGS); \
	done

.PHONY: test-all
test-all: test-go ## pytest and CPython's own suite for every CPython 3.10 to 3.15 that is installed or can be obtained
	@sh build_support/each_python.sh test-python conformance

.PHONY: test-wheels
test-wheels: ## build manylinux wheels as `make wheels` does, and test each that this machine can run
	@sh build_support/each_python.sh wheels-of-python test-wheels-of-python

.PHONY: test-wheels-of-python
test-wheels-of-python: $(VENV)/$(PYTAG)
	set -- dist/goproc-*-$(CPYTHON)-manylinux_*_$$(uname -m).whl && \
		$(RUN) -m pip install "$$1[test]" && $(RUN) -m pip install --force-reinstall --no-deps "$$1"
	GOPROC_WHEELS="$(abspath dist)" $(RUN) -m pytest tests/packaging/test_manylinux.py $(ARGS)
	$(RUN) -m pytest -m "not slow" $(BRIEF) $(ARGS)

.PHONY: test-aarch64
test-aarch64: $(BUILD_ENV)/stamp ## run tests on an emulated aarch64, with a wheel made for it: hours; some tests: ARGS="tests/unit/test_fork.py"
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "test-aarch64: Debian's CPython for aarch64 is 3.11: PYTHON must be that version, too" >&2; exit 1; }
	bash build_support/aarch64.sh make
	$(MAKE) wheels-of-python MACHINES=aarch64
	PYTHON=$(BUILD_ENV)/bin/python bash build_support/aarch64.sh test $(ARGS)

.PHONY: test-wheels-debian
test-wheels-debian: ## test the wheels of dist/ in Debian 11 and 12, without Go and a compiler; needs root
	@bash build_support/wheels/debian_roots.sh dist $(BRIEF)

.PHONY: conformance
conformance: install-test ## CPython's own multiprocessing suite, for PYTHON
	$(RUN) tests/conformance/run.py $(ARGS)

.PHONY: conformance-all
conformance-all: ## CPython's own suite, for every CPython on this machine
	@sh build_support/each_python.sh conformance

.PHONY: chaos
chaos: install ## processes of pools, and those that use locks or queues, are killed at random (MINUTES=1, KILLS=1000, SEED=...)
	$(RUN) tests/chaos/run.py --minutes $(MINUTES) $(if $(SEED),--seed "$(SEED)") $(ARGS)
	$(RUN) tests/chaos/locks.py --kills $(KILLS) $(if $(SEED),--seed "$(SEED)")
	$(RUN) tests/chaos/queues.py --kills $(KILLS) $(if $(SEED),--seed "$(SEED)")

.PHONY: chaos-cluster
chaos-cluster: install-test ## three hosts in network namespaces lose processes, machines and links at random (TASKS=50000, SEED=...)
	$(RUN) tests/cluster/run.py --tasks $(TASKS) $(if $(SEED),--seed "$(SEED)") $(ARGS)

.PHONY: fuzz
fuzz: prerequisites ## fuzz all functions that decode bytes of another process, each for FUZZTIME (30s)
	@sh build_support/fuzz.sh "$(FUZZTIME)"

.PHONY: sanitize
sanitize: install-test ## pytest of processes, pools and _native, with the C code under ASan and UBSan
	@sh build_support/sanitize.sh "$(RUN)" $(ARGS)

.PHONY: check-models
check-models: ## check the models of the protocols in shared memory, with Spin and herd7
	"$(PYTHON)" tests/models/check.py

# A variable on the command line takes precedence over these two. check_weekly.py has the time limit of each check.
check-weekly: export MINUTES = 10
check-weekly: export FUZZTIME = 5m

.PHONY: check-weekly
check-weekly: prerequisites ## the slow checks that .ci/run leaves out: some hours (some checks: WEEKLY="fuzz sanitize")
	@"$(PYTHON)" build_support/check_weekly.py $(WEEKLY)

##@ To measure

.PHONY: faults
faults: ## write the table and the picture of docs/reliability.md: faults in goproc and in five other libraries
	$(MAKE) faults-run VENV="$(BENCH_VENV)"
	$(if $(FAULTS_PAGE),$(BENCH_VENV)/bin/python -m benchmarks plots)

.PHONY: faults-run
faults-run: install-bench
	$(RUN) tests/faults/run.py $(if $(FAULTS_PAGE),--write $(FAULTS_PAGE) --data docs/plots/faults.json) $(ARGS)

.PHONY: bench
bench: ## compare goproc with six other libraries, then write the tables and plots of docs: some 30 minutes
	$(MAKE) bench-run VENV="$(BENCH_VENV)" ARGS="run $(ARGS)"
	$(BENCH_VENV)/bin/python -m benchmarks parts
	$(BENCH_VENV)/bin/python -m benchmarks report

.PHONY: plots
plots: ## write the tables and plots of docs again, from the figures in docs/plots/*.json, without measuring
	$(MAKE) plots-run VENV="$(BENCH_VENV)"

.PHONY: plots-run
plots-run: $(VENV)/$(PYTAG)-bench
	$(RUN) -m benchmarks plots

.PHONY: bench-quick
bench-quick: ## compare goproc with multiprocessing, in under two minutes (some rows: ARGS="--only apply,imap")
	$(MAKE) bench-run VENV="$(BENCH_VENV)" ARGS="quick $(ARGS)"

.PHONY: bench-run
bench-run: install-bench
	$(RUN) -m benchmarks $(ARGS)

.PHONY: bench-cluster
bench-cluster: ## compare goproc.cluster with Dask and Ray, then write docs/benchmarks-cluster.md: some 20 minutes
	$(MAKE) bench-cluster-run VENV="$(BENCH_CLUSTER_VENV)"

.PHONY: bench-cluster-run
bench-cluster-run: $(VENV)/$(PYTAG)-bench-cluster install
	$(RUN) -m benchmarks cluster $(ARGS)

.PHONY: bench-go
bench-go: prerequisites ## Go benchmarks of the rings and the scheduler
	go test -run='^$$' -bench=. -benchmem $(ARGS) ./core/...

.PHONY: thirdparty
thirdparty: $(BUILD_ENV)/stamp ## test programs and libraries of others, in a separate environment (downloads them)
	$(MAKE) install VENV=build/thirdparty-$(PYTAG)
	build/thirdparty-$(PYTAG)/bin/python -m pip install --requirement tests/thirdparty/requirements.txt \
		$(addprefix --constraint ,$(wildcard tests/thirdparty/constraints-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt))
	build/thirdparty-$(PYTAG)/bin/python tests/thirdparty/run.py $(ARGS)

##@ To write

# Sphinx makes each page anew (-E -a): a page that it leaves as it is has no warnings.
SPHINX = $(RUN) -m sphinx -E -a -q -n -W --keep-going docs

.PHONY: docs
docs: install-docs ## build the documentation as a site, build/docs; a warning or a lost link is an error
	$(SPHINX) -b html build/docs $(ARGS)
	@echo "the site is in build/docs/index.html"

.PHONY: docs-links
docs-links: install-docs ## look for all that the documentation links to on other sites
	$(SPHINX) -b linkcheck build/docs-links $(ARGS)

##@ To change the code

GO_DIRS := capi core pybind
C_FILES = $(wildcard capi/*.[ch] capi/*/*.[ch] capi/*/*/*.[ch])

.PHONY: lint
lint: lint-go lint-python lint-types lint-c lint-workflows ## all linters, and the formatters in their checking mode

# The parts of `make lint`: .pre-commit-config.yaml runs the parts that concern a commit's files.
.PHONY: lint-go lint-python lint-types lint-c lint-workflows
lint-go: prerequisites
	@unformatted=$$(gofmt -l $(GO_DIRS)); test -z "$$unformatted" || { echo "not gofmt's format (make format):" $$unformatted; exit 1; }
	go vet ./...
	$(GO_LINT) staticcheck ./...
	@cgo=$$(go list -f '{{if .CgoFiles}}{{.ImportPath}}{{end}}' ./core/... ./pybind/...); test -z "$$cgo" || { echo 'import "C" outside capi:' $$cgo; exit 1; }

lint-python: install-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

lint-types: install-lint install
	@cd tests/annotations && "$(abspath $(RUN))" -m mypy.stubtest \
		--mypy-config-file stubtest.ini --allowlist stubtest_allowed.txt goproc

lint-c: install-lint
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)

# Without shellcheck and pyflakes, which some machines lack: the result must not depend on the machine.
lint-workflows: prerequisites
	$(GO_LINT) actionlint -shellcheck= -pyflakes= .github/workflows/*.yml

.PHONY: format
format: install-lint ## run the formatters on all files
	gofmt -w $(GO_DIRS)
	$(RUN) -m ruff check --fix --exit-zero --quiet .
	$(RUN) -m ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

.PHONY: clean
clean: ## remove all build products and the environments
	rm -rf build dist .venv .venv-3.* .venv-bench .venv-bench-cluster python/*.egg-info python/goproc/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nVariables: PYTHON (%s), VENV (%s), ARGS (for the program that a target runs)\n' "$(PYTHON)" "$(VENV)"

# --- How the environments are made. Each has a stamp file. `prerequisites` is an order-only dependency: it runs first
# every time, but does not make the stamp out of date.

$(BUILD_ENV)/stamp: pyproject.toml | prerequisites
	"$(PYTHON)" -m venv --clear $(BUILD_ENV)
	$(BUILD_ENV)/bin/python -m pip install $(BUILD_REQUIRES)
	touch $@

$(BUILD_ENV)/wheels-stamp: build_support/wheels/requirements.txt $(BUILD_ENV)/stamp
	$(BUILD_ENV)/bin/python -m pip install --requirement build_support/wheels/requirements.txt
	touch $@

# The stamp's name contains the interpreter's tag, so another PYTHON replaces the environment.
$(VENV)/$(PYTAG): | prerequisites
	"$(PYTHON)" -m venv --clear $(VENV)
	touch $@

.PHONY: wheel-for-venv
wheel-for-venv: $(BUILD_ENV)/stamp
	@echo "building the wheel (the first time, compiling Go's own packages takes a minute or two)"
	rm -rf $(WHEELS)
	$(BUILD_ENV)/bin/python -m pip wheel --no-build-isolation --no-deps --wheel-dir $(WHEELS) .

# The packages for testing, linting and benchmarks: the extras of pyproject.toml, installed again when it changes.
$(VENV)/$(PYTAG)-%: pyproject.toml $(VENV)/$(PYTAG)
	$(MAKE) wheel-for-venv
	set -- $(WHEELS)/goproc-*.whl && $(RUN) -m pip install "$$1[$*]"
	touch $@

.PHONY: install-test install-bench install-lint install-docs
install-test: $(VENV)/$(PYTAG)-test install
install-bench: $(VENV)/$(PYTAG)-bench install
install-lint: $(VENV)/$(PYTAG)-lint
install-docs: $(VENV)/$(PYTAG)-docs install
