#!/bin/sh
# What the shared library exports is exactly what the list says.
set -eu
lib=$1 list=$2
tmp=$(mktemp -d); trap 'rm -r "$tmp"' EXIT
nm -D --defined-only "$lib" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort >"$tmp/exported"
sort "$list" >"$tmp/listed"
diff "$tmp/exported" "$tmp/listed" || { echo "exported (<) and listed (>) symbols differ"; exit 1; }
echo "$(wc -l <"$tmp/listed") symbols, as listed"
