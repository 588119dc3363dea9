#!/usr/bin/env bash
# Every suite runs from end to end at its smallest size. Figures are not judged here: machines are shared.
set -euo pipefail
cd "$(dirname "$0")/.."
for suite in $(build/release/bin/larder-bench --list | awk '{print $1}'); do
  timeout 300 build/release/bin/larder-bench "$suite" --quick --json "build/release/bench-$suite.json" | tail -n +1
done
