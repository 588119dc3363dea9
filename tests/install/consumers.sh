#!/usr/bin/env bash
# Install into a scratch folder and build three consumers against it.
set -euo pipefail
build=$1 source=$2
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
DESTDIR=$tmp/root cmake --install "$build" --prefix /usr >"$tmp/install.log"
root=$tmp/root/usr
libdir=$(dirname "$(find "$root" -name liblarder.so.0 | head -1)")
export PKG_CONFIG_PATH=$libdir/pkgconfig LD_LIBRARY_PATH=$libdir

cc -std=c11 -Wall -Wextra -Werror "$here/consumer.c" $(pkg-config --cflags --libs larder) -o "$tmp/shared"
"$tmp/shared"
readelf -d "$tmp/shared" | grep -q 'NEEDED.*liblarder.so.0'
# The static library must not bring an allocator of its own into the program.
if pkg-config --static --libs larder | grep -qE 'mimalloc|cuda'; then echo "larder.pc names an allocator or CUDA"; exit 1; fi

mkdir "$tmp/cmake" && cp "$here/consumer.c" "$tmp/cmake/consumer.cpp"
cat >"$tmp/cmake/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(consumer CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(larder 0.1 REQUIRED)
add_executable(consumer consumer.cpp)
target_link_libraries(consumer PRIVATE larder::larder)
END
cmake -S "$tmp/cmake" -B "$tmp/cmake/build" -Dlarder_DIR="$libdir/cmake/larder" >"$tmp/cmake.log" 2>&1 || { cat "$tmp/cmake.log"; exit 1; }
cmake --build "$tmp/cmake/build" >"$tmp/cmake.log" 2>&1 || { cat "$tmp/cmake.log"; exit 1; }
"$tmp/cmake/build/consumer"
echo "pkg-config and find_package consumers built and ran"
