#!/usr/bin/env bash
# Record the ABI of the dev build as abi/larder-0.1.abixml.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/build.sh dev
abidw --headers-dir include --drop-private-types --no-corpus-path --no-comp-dir-path --no-show-locs \
  --out-file abi/larder-0.1.abixml build/dev/lib/liblarder.so
ls -l abi/larder-0.1.abixml
