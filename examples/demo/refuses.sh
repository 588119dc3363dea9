#!/usr/bin/env bash
# Files and options that the demo must refuse, with exit code 2 and a sentence that names what is wrong.
# usage: refuses.sh PROGRAM SOURCE_DIR
set -euo pipefail
program=$1 models=$2/examples/models
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
model=$models/larder-demo.kvlm
failed=0
cd "$2"

# refused NEEDLE ARGS...
refused() {
  local needle=$1; shift
  local code=0
  "$program" --report "$tmp/report.html" "$@" >"$tmp/out" 2>&1 || code=$?
  if [ "$code" != 2 ] || ! grep -q -- "$needle" "$tmp/out"; then
    echo "expected exit code 2 and '$needle' from: $*"; echo "got $code:"; cat "$tmp/out"; failed=1
  fi
}

head -c 3000000 "$model" >"$tmp/short.kvlm"
cp "$model" "$tmp/bad.kvlm"; printf 'x' | dd of="$tmp/bad.kvlm" bs=1 seek=1000000 conv=notrunc status=none
head -c 9000 "$models/larder-demo.txt" >"$tmp/short.txt"
tr '\f' ' ' <"$models/larder-demo.txt" >"$tmp/one-page.txt"
: >"$tmp/empty"
refused "No such file" --model "$tmp/none.kvlm"
refused "not a model" --model "$models/larder-demo.txt" --tokenizer "$models/larder-demo.bpe"
refused "truncated" --model "$tmp/short.kvlm"
refused "checksum" --model "$tmp/bad.kvlm"
refused "bytes" --model "$tmp/empty"
refused "tokenizer" --tokenizer "$models/larder-demo.txt"
refused "too few for a document" --text "$tmp/short.txt"
refused "page 2 of the text" --text "$tmp/one-page.txt"
refused "larder_kv_open" --codec nonsense
refused "not a number" --blocks many
refused "larder_kv_open" --blocks 1
refused "larder_kv" --blocks 20
refused "unknown" --frobnicate 1
exit $failed
