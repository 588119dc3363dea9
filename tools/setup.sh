#!/usr/bin/env bash
# Install what building, testing and the demo need, through apt-get. Says what it installs; silent when all is there.
# Licences of what only the bench, the tests and the tool link (the library's own are in README.md): TBB and Abseil Apache-2.0,
# libcds BSL-1.0 (Boost), mimalloc MIT, htscodecs, ISA-L and CLI11 BSD-3-Clause, nlohmann-json MIT, cmocka Apache-2.0.
set -euo pipefail
packages=(g++ cmake ninja-build ccache pkg-config python3 libzstd-dev libsodium-dev liburing-dev libcmocka-dev
  libcli11-dev nlohmann-json3-dev libtbb-dev libabsl-dev libcds-dev libmimalloc-dev libhtscodecs-dev libisal-dev redis-server libhiredis-dev libssl-dev fio clang-14 clang-format-14 libclang-rt-14-dev abigail-tools doxygen)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
sudo=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "Missing packages: ${missing[*]}; run as root, or install sudo."; exit 1; }
  sudo=sudo
fi
echo "Installing with apt-get: ${missing[*]}"
log=$(mktemp)
{ $sudo apt-get update && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
  { tail -20 "$log"; echo "apt-get failed; the whole log is $log"; exit 1; }
rm -f "$log"
