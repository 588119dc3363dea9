#!/usr/bin/env bash
# Configure and build one preset quietly; say what failed.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1; shift
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" > "/tmp/larder-configure-$preset.log" 2>&1 || { cat "/tmp/larder-configure-$preset.log"; exit 1; }
cmake --build "build/$preset" -j "${JOBS:-$(nproc)}" -- --quiet "$@"
