#!/usr/bin/env bash
# Builds the addon with the address and undefined-behaviour sanitizers beside the normal build, runs its tests and the
# contract table with it, and puts the normal build back. Needs GCC and its sanitizer libraries; takes a few minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

package=$PWD
restore() {
  cd "$package"
  rm -rf build
  if [ -d build.normal ]; then mv build.normal build; fi
}
# What a run that was killed has set aside is the normal build still.
if [ -d build ] && [ ! -d build.normal ]; then mv build build.normal; fi
trap restore EXIT

# Line numbers alone: following variables through unrolled loops takes the compiler minutes.
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g1"
CXXFLAGS="$flags" LDFLAGS="$flags" npm run --silent build > /dev/null

# The library of the sanitizer must be there before Node starts. Node itself keeps what it never frees.
cd ../..
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
  node node_modules/vitest/vitest.mjs run test/native test/contract packages/train/src/kernels -t native "$@"
