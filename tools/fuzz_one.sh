#!/usr/bin/env bash
# tools/fuzz_one.sh TARGET SEED_CORPUS WORK_CORPUS: run one libFuzzer target for a while, quietly.
set -euo pipefail
target=$1 seeds=$2 work=$3
log=$(mktemp)
dirs=("$work"); [ -d "$seeds" ] && dirs+=("$seeds")
if "$target" -max_total_time="${LARDER_FUZZ_SECONDS:-20}" -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$work/" "${dirs[@]}" >"$log" 2>&1; then
  grep -E 'stat::number_of_executed_units|cov:' "$log" | tail -2
else
  tail -40 "$log"; exit 1
fi
rm -f "$log"
