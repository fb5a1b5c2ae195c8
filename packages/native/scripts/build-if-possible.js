// Builds the addon where a compiler is there. Never fails: without the addon the kernels in WebAssembly are used.
// Does nothing if the addon is newer than all of its sources.

import { spawnSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const modifiedMs = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function newestSourceMs() {
  const sources = readdirSync(`${root}src`, { recursive: true }).map((name) => `${root}src/${name}`);
  sources.push(`${root}binding.gyp`, `${root}../rwkv/src/backends/cpu/abi.ts`);
  return Math.max(...sources.map(modifiedMs));
}

if (modifiedMs(`${root}build/Release/rwkv_native.node`) < newestSourceMs()) {
  const { status, stderr } = spawnSync("npm", ["run", "--silent", "build"], { cwd: root, encoding: "utf8" });
  if (status === 0) {
    console.log("native: built");
  } else {
    const reason = stderr?.trim().split("\n").at(-1) ?? "npm could not be started";
    console.log(`native: not built, WebAssembly is used instead (${reason})`);
  }
}
