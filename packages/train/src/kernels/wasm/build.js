// Compiles the kernels to WASM on shared memory, with and without relaxed SIMD, and writes each in base64 as a module in
// ../generated. Does nothing if no source is newer than those modules. Sources of the engine's kernels are used too.

import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const packages = fileURLToPath(new URL("../../../..", import.meta.url));
const folder = join(packages, "train/src/kernels/wasm");
const engine = join(packages, "rwkv/src/backends/cpu");
const sources = [
  join(engine, "abi.ts"),
  ...[folder, join(engine, "wasm")].flatMap((path) => readdirSync(path).map((name) => join(path, name))),
];
/** Whatever these export is a kernel. */
const ENTRIES = ["gemm", "rows", "norms", "shift", "training", "wkv7"];
const modifiedMs = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const sourcesMs = Math.max(...sources.map(modifiedMs));

for (const [name, flags] of [
  ["kernels", []],
  ["kernels-relaxed", ["--enable=relaxed-simd"]],
]) {
  const target = join(folder, "../generated", `${name}.ts`);
  if (sourcesMs >= modifiedMs(target)) await build(target, flags);
}

async function build(target, flags) {
  const { default: asc } = await import("assemblyscript/asc");
  const outputs = new Map();
  const { error, stderr } = await asc.main(
    [
      ...ENTRIES.map((name) => `train/src/kernels/wasm/${name}.ts`),
      `--baseDir=${packages}`,
      "--outFile=kernels.wasm",
      "-O3",
      "--runtime=stub",
      "--enable=simd",
      "--enable=threads",
      "--noAssert",
      "--importMemory",
      "--sharedMemory",
      "--maximumMemory=65536",
      "--use=abort=",
      // About v128 in signatures of functions that other sources import; none of them is an export of the module.
      "--disableWarning=112",
      ...flags,
    ],
    { writeFile: (name, contents) => outputs.set(name, contents) },
  );
  if (error) {
    process.stderr.write(stderr.toString());
    throw error;
  }
  const wasm = outputs.get("kernels.wasm");
  if (hasData(wasm))
    throw new Error("kernels of training have static data, which would lie among the arrays");
  const base64 = Buffer.from(wasm).toString("base64");
  mkdirSync(join(target, ".."), { recursive: true });
  writeFileSync(
    target,
    `// Made by wasm/build.js from the sources beside it.\n\nexport const KERNELS_BASE64 =\n  "${base64}";\n`,
  );
  console.log(`kernels of training: ${wasm.byteLength} bytes of WASM in ${target}`);
}

/** Whether a module has a data section. */
function hasData(wasm) {
  const DATA_SECTION = 11;
  for (let at = 8; at < wasm.length;) {
    if (wasm[at++] === DATA_SECTION) return true;
    let byteLength = 0;
    let shift = 0;
    let byte = 0;
    do {
      byte = wasm[at++];
      byteLength += (byte & 127) * 2 ** shift;
      shift += 7;
    } while (byte > 127);
    at += byteLength;
  }
  return false;
}
