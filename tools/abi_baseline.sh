#!/usr/bin/env bash
# Record the ABI that the headers declare as abi/larder-0.1.abixml.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/build.sh dev
abidw --no-corpus-path --no-comp-dir-path --no-show-locs \
  --out-file abi/larder-0.1.abixml build/dev/lib/libabi_probe.so
ls -l abi/larder-0.1.abixml
