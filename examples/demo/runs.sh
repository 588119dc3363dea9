#!/usr/bin/env bash
# The whole demo must pass its own checks, and its page must load nothing from elsewhere.
# usage: runs.sh PROGRAM SOURCE_DIR
set -euo pipefail
program=$1 source=$2
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
cd "$source"
TMPDIR=$tmp "$program" --windows 2 --report "$tmp/report.html" | tee "$tmp/out"
grep -q '^All checks hold' "$tmp/out"
if grep -nE '(src|href)=|url\(|@import|https?:' "$tmp/report.html"; then echo "the report is not self-contained"; exit 1; fi
tail -c 20 "$tmp/report.html" | grep -q '</html>'
[ "$(ls "$tmp" | sort | tr '\n' ' ')" = "out report.html " ] || { echo "left behind:"; ls -R "$tmp"; exit 1; }
