#!/usr/bin/env bash
# Builds the addon with the address and then with the undefined-behaviour sanitizer beside the normal build, runs its tests and the
# contract table with each, and puts the normal build back. Needs GCC and its sanitizer libraries; takes some twenty minutes.
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

# One after the other: both together take the compiler a quarter of an hour for one kernel set. Line numbers alone: following
# variables through unrolled loops takes it minutes. Node itself keeps what it never frees.
check() {
  local library=$1
  shift
  local flags="$* -g1 -O2"
  rm -rf build
  CXXFLAGS="$flags" LDFLAGS="$flags" npm run --silent build > /dev/null
  (
    cd ../..
    LD_PRELOAD="$(gcc -print-file-name="$library")" ASAN_OPTIONS=detect_leaks=0 \
      node node_modules/vitest/vitest.mjs run test/native test/contract packages/train/src/kernels -t native "${args[@]}"
  )
}
args=("$@")
check libasan.so -fsanitize=address
check libubsan.so -fsanitize=undefined -fno-sanitize-recover=undefined
