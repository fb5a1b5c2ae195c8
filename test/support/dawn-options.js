// Loaded before a command (node --import): Dawn of the package `webgpu` gets the options in DAWN_OPTIONS, as JSON. The package
// takes `create` from this module when it is imported.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = dirname(fileURLToPath(import.meta.resolve("webgpu")));
const dawn = createRequire(import.meta.url)(
  join(folder, `dist/${process.platform}-${process.arch}/dawn.node`),
);
const { create } = dawn;
const options = JSON.parse(process.env.DAWN_OPTIONS);
dawn.create = (others) => create([...options, ...others]);
