// Compiles the kernels to WASM and writes them, in base64, as the module ../generated/kernels.ts: a page needs no
// second request for them, and no bundler a rule for .wasm files. Does nothing if no source is newer than that module.

import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = dirname(fileURLToPath(import.meta.url));
const target = join(folder, "..", "generated", "kernels.ts");
const sources = [join(folder, "..", "abi.ts"), ...readdirSync(folder).map((name) => join(folder, name))];

const modifiedMs = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

if (sources.some((source) => modifiedMs(source) >= modifiedMs(target))) await build();

async function build() {
  const { default: asc } = await import("assemblyscript/asc");
  const outputs = new Map();
  const { error, stderr } = await asc.main(
    [
      "wasm/run.ts",
      `--baseDir=${join(folder, "..")}`,
      "--outFile=kernels.wasm",
      "-O3",
      "--runtime=stub",
      "--enable=simd",
      "--noAssert",
      "--importMemory",
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
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(
    target,
    `// Made by wasm/build.js from the sources beside it.\n\nexport const KERNELS_BASE64 =\n  "${base64}";\n`,
  );
  console.log(`kernels: ${wasm.byteLength} bytes of WASM in ${target}`);
}
