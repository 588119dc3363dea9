#!/usr/bin/env bash
# Build the manual from headers and guides; a warning is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/docs
doxygen docs/Doxyfile >build/docs/doxygen.log 2>&1 || { tail -30 build/docs/doxygen.log; exit 1; }
echo "manual: build/docs/html/index.html"
