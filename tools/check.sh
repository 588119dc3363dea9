#!/usr/bin/env bash
# tools/check.sh quick | full
# quick: the dev build and every test (assertions on). full: what CI runs: also ASan+UBSan, TSan, short fuzzing, the release build with its
# install test, the demo and the documentation.
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:-quick}
jobs=${JOBS:-$(nproc)}
passed=0 failed=0 skipped=0 failures=()
started=$SECONDS

note() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - started)); }

# run_ctest BUILD_DIR ARGS...: run, show failures, count.
run_ctest() {
  local dir=$1; shift
  local log; log=$(mktemp)
  ctest --test-dir "$dir" -j "$jobs" --output-on-failure --no-tests=error "$@" 2>&1 | tee "$log" | grep -vE '^ +[0-9]+/[0-9]+ Test .*Passed|^ *Start |^Test project|^$'
  local bad skip total
  bad=$(grep -cE '^ *[0-9]+/[0-9]+ Test.*\*\*\*(Failed|Exception|Timeout|Not Run \(Failed\))' "$log")
  skip=$(grep -cE '^ *[0-9]+/[0-9]+ Test.*\*\*\*(Skipped|Not Run \(Disabled\))' "$log")
  total=$(grep -cE '^ *[0-9]+/[0-9]+ Test' "$log")
  [ "$total" -gt 0 ] || { bad=1; total=1; echo "no test ran in $dir"; }
  failed=$((failed + bad)) skipped=$((skipped + skip)) passed=$((passed + total - bad - skip))
  [ "$bad" -eq 0 ] || failures+=("$dir $*")
  rm -f "$log"
}

# step NAME COMMAND...: one check that counts as a test.
step() {
  local name=$1; shift
  note "$name"
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); failures+=("$name"); fi
}

step "build dev" tools/build.sh dev
# CI is repeatable; every day's checks draw fresh seeds (each test prints its own).
[ "$mode" = full ] && export LARDER_SEED=${LARDER_SEED:-20261125}
note "tests, dev build"
run_ctest build/dev

if [ "$mode" = full ]; then
  step "build asan" tools/build.sh asan
  note "tests, AddressSanitizer and UBSan"
  LARDER_TEST_PERCENT=60 run_ctest build/asan -LE 'abi|install|tidy|cli'
  step "build tsan" tools/build.sh tsan
  note "concurrent tests, ThreadSanitizer"
  LARDER_TEST_PERCENT=5 run_ctest build/tsan -L 'unit|property|conformance' -R 'threads|jobs|core|kv|store|ranks|device|prefix|arena|ring'
  step "build fuzz" tools/build.sh fuzz
  for target in build/fuzz/bin/fuzz_*; do
    case $target in *_regression) continue ;; esac
    name=$(basename "$target")
    mkdir -p "build/fuzz/corpus/$name"
    step "fuzz $name, ${LARDER_FUZZ_SECONDS:-20} s" tools/fuzz_one.sh "$target" "tests/fuzz/corpus/${name#fuzz_}" "build/fuzz/corpus/$name"
  done
  step "build release" tools/build.sh release
  note "ABI, install and examples, release build"
  run_ctest build/release -L 'abi|install|examples'
  step "demo" tools/demo.sh
  step "docs" tools/docs.sh
  step "benchmarks run" tools/bench_smoke.sh
fi

note "done"
for f in ${failures[@]+"${failures[@]}"}; do echo "failed: $f"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
