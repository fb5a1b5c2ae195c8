// Writes generated/abi.h from the constants of the cpu backend's abi.ts, so that they are written down once.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const source = new URL("../../rwkv/src/backends/cpu/abi.ts", import.meta.url);
const folder = new URL("../generated/", import.meta.url);

const constants = [...readFileSync(source, "utf8").matchAll(/^export const ([A-Z0-9_]+) = (\d+);$/gm)];
if (constants.length === 0) throw new Error(`${source.pathname} has no constants`);

const lines = constants.map(([, name, value]) => `constexpr uint32_t ${name} = ${value};`);
// The same text, in the same order, is what the loader compares: an addon of another layout must not run.
const layout = constants
  .map(([, name, value]) => `${name}=${value}`)
  .sort()
  .join(" ");
mkdirSync(folder, { recursive: true });
writeFileSync(
  new URL("abi.h", folder),
  [
    "// Made by scripts/make-abi.js from abi.ts of the cpu backend.",
    "#pragma once",
    "#include <cstdint>",
    "namespace rwkv::abi {",
    ...lines,
    `constexpr char LAYOUT[] = "${layout}";`,
    "}",
    "",
  ].join("\n"),
);
