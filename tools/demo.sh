#!/usr/bin/env bash
# Build the demo and run it: prints its progress, its tables and its checks, writes demo-report.html.
# Arguments go to the program (--help lists them). Exit code 1: a check failed; 2: it could not run.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "Building the release library and the demo ..."
tools/build.sh release larder-demo
exec build/release/bin/larder-demo "$@"
