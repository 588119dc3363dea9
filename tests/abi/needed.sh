#!/bin/sh
# The library needs libc, libzstd and libsodium at run time, nothing else, and has its SONAME.
set -eu
dynamic=$(readelf -d "$1")
echo "$dynamic" | grep -q 'SONAME.*\[liblarder\.so\.0\]' || { echo "wrong SONAME"; exit 1; }
bad=$(echo "$dynamic" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -Ev '^(libc\.so\.6|libm\.so\.6|ld-linux-.*|libzstd\.so\.1|libsodium\.so\.[0-9]+)$' || true)
[ -z "$bad" ] || { echo "needs at run time: $bad"; exit 1; }
echo "needs only libc, libzstd and libsodium"
