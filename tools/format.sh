#!/usr/bin/env bash
# tools/format.sh [--check]: lay out the C and C++ sources by .clang-format. Other versions of the program differ in
# details, so only clang-format-14 is used; --check exits 77 (skipped) where it is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(command -v clang-format-14) || { echo "clang-format-14 is not installed"; exit 77; }
# Generated, and the README's own 40 lines.
files=$(git ls-files '*.h' '*.c' '*.cpp' '*.cu' '*.cuh' | grep -vx -e tests/abi/layout.c -e examples/readme.c)
if [ "${1:-}" = --check ]; then
  "$program" --dry-run --Werror $files
else
  "$program" -i $files
fi
