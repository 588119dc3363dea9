#!/usr/bin/env bash
# The kernels for 64-bit ARM, whose loops the compiler turns into NEON, give the same bytes: cross-built, and run under
# qemu-user. In a long run only.  usage: kernels_aarch64.sh SOURCE_DIR WORK_DIR
set -euo pipefail
source_dir=$1 work=$2
skip() { echo "skipped: $1"; exit 77; }
[ -n "${LARDER_LONG:-}" ] || skip "not a long run (LARDER_LONG)"
compiler=$(command -v aarch64-linux-gnu-g++) || skip "g++-aarch64-linux-gnu is not installed"
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || skip "qemu-user is not installed"
mkdir -p "$work"
cd "$source_dir"
"$compiler" -std=c++20 -O3 -ffp-contract=off -static -Iinclude -Isrc -Itests -o "$work/kernels_digest" \
  tests/cross/kernels_digest.cpp src/codec/kernels_scalar.cpp src/codec/rans.cpp
"$emulator" "$work/kernels_digest"
