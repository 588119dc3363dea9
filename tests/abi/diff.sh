#!/bin/sh
# Compare with the recorded baseline. Before the tag 0.1 a change is allowed, knowingly: the commit that makes it renews
# the baseline (tools/abi_baseline.sh).
set -u
lib=$1 root=$2
baseline=$root/abi/larder-0.1.abixml
command -v abidiff >/dev/null || { echo "skipped: abidiff is not installed"; exit 77; }
[ -f "$baseline" ] || { echo "skipped: there is no baseline"; exit 77; }
if abidiff "$baseline" "$lib"; then
  echo "no difference from the baseline"
else
  echo "abidiff exit code $?: renew the baseline with tools/abi_baseline.sh if the change is meant"
  exit 1
fi
