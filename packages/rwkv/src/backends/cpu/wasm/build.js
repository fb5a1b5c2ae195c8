// Compiles the kernels to WASM, for a single thread and for several on shared memory, with and without relaxed SIMD, and
// writes each in base64 as a module in ../generated: a page needs no second request for them, and no bundler a rule for .wasm files.
// Does nothing if no source is newer than those modules.

import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = dirname(fileURLToPath(import.meta.url));
const targetFolder = join(folder, "..", "generated");
const sources = [join(folder, "..", "abi.ts"), ...readdirSync(folder).map((name) => join(folder, name))];

const RELAXED = ["--enable=relaxed-simd"];
/** A shared memory must announce its greatest size, here that of the address space. */
const SHARED = ["--enable=threads", "--sharedMemory", "--maximumMemory=65536"];

const VARIANTS = [
  { entry: "wasm/run.ts", target: join(targetFolder, "kernels.ts"), flags: [] },
  { entry: "wasm/work.ts", target: join(targetFolder, "kernels-shared.ts"), flags: SHARED },
  { entry: "wasm/run.ts", target: join(targetFolder, "kernels-relaxed.ts"), flags: RELAXED },
  {
    entry: "wasm/work.ts",
    target: join(targetFolder, "kernels-relaxed-shared.ts"),
    flags: [...RELAXED, ...SHARED],
  },
];

const modifiedMs = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

const sourcesMs = Math.max(...sources.map(modifiedMs));
for (const variant of VARIANTS) {
  if (sourcesMs >= modifiedMs(variant.target)) await build(variant);
}

async function build({ entry, target, flags }) {
  const { default: asc } = await import("assemblyscript/asc");
  const outputs = new Map();
  const { error, stderr } = await asc.main(
    [
      entry,
      `--baseDir=${join(folder, "..")}`,
      "--outFile=kernels.wasm",
      "-O3",
      "--runtime=stub",
      "--enable=simd",
      "--noAssert",
      "--importMemory",
      ...flags,
      "--use=abort=",
      // About v128 in signatures of functions that other sources import; none of them is an export of the module.
      "--disableWarning=112",
    ],
    { writeFile: (name, contents) => outputs.set(name, contents) },
  );
  if (error) {
    process.stderr.write(stderr.toString());
    throw error;
  }
  const wasm = outputs.get("kernels.wasm");
  const base64 = Buffer.from(wasm).toString("base64");
  mkdirSync(targetFolder, { recursive: true });
  writeFileSync(
    target,
    `// Made by wasm/build.js from the sources beside it.\n\nexport const KERNELS_BASE64 =\n  "${base64}";\n`,
  );
  console.log(`kernels: ${wasm.byteLength} bytes of WASM in ${target}`);
}
