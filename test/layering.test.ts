// Imports go one way. This test reads every import of every source file and names the file and line that breaks the
// table of who may import whom.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const ENGINE = join(ROOT, "packages", "rwkv", "src");

/** What each folder of the engine may import besides itself. `type:x` allows types of x only. */
const ENGINE_LAYERS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  formats: ["core"],
  tokenizer: ["core"],
  sampler: ["core"],
  chat: ["core"],
  ops: ["core"],
  model: ["core", "ops", "type:formats"],
  "backends/reference": ["core", "ops"],
  "backends/cpu": ["core", "ops"],
  "backends/webgpu": ["core", "ops"],
  runtime: [
    "core",
    "formats",
    "tokenizer",
    "sampler",
    "chat",
    "ops",
    "model",
    "backends/reference",
    "backends/cpu",
    "backends/webgpu",
  ],
  "platform/node": ["core", "type:formats", "platform"],
  platform: ["core", "type:formats"],
  // Entry points export what lies below and do nothing else.
  ".": [
    "core",
    "formats",
    "tokenizer",
    "sampler",
    "chat",
    "ops",
    "model",
    "runtime",
    "platform",
    "platform/node",
  ],
};

/** Packages in order; each may import only those before it, by name. */
const PACKAGES = [
  { name: "rwkv", folder: "packages/rwkv" },
  { name: "rwkv-native", folder: "packages/native" },
  { name: "rwkv-train", folder: "packages/train" },
  { name: "rwkv-demo-model", folder: "models/demo" },
  { name: "rwkv-cli", folder: "apps/cli" },
] as const;

interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
  readonly isType: boolean;
}

const IMPORT = /(?:^|\n)\s*(?:import|export)\s+(type\s)?[^;'"]*?from\s*"([^"]+)"|import\(\s*"([^"]+)"\s*\)/g;

function* sourceFiles(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!["node_modules", "dist", "wasm", "generated"].includes(entry.name)) yield* sourceFiles(path);
    } else if (entry.name.endsWith(".ts") && !entry.name.endsWith(".test.ts")) {
      yield path;
    }
  }
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, "utf8");
  return [...text.matchAll(IMPORT)].map((match) => ({
    file: relative(ROOT, file),
    line: text.slice(0, match.index).split("\n").length + (match[0].startsWith("\n") ? 1 : 0),
    specifier: (match[2] ?? match[3])!,
    isType: match[1] !== undefined,
  }));
}

/** The layer a file of the engine belongs to: the longest folder of the table. */
function layerOf(file: string): string {
  const folder = relative(ENGINE, dirname(file)).split(sep).join("/");
  const layers = Object.keys(ENGINE_LAYERS).filter(
    (layer) => folder === layer || folder.startsWith(`${layer}/`),
  );
  return layers.sort((a, b) => b.length - a.length)[0] ?? (folder === "" ? "." : folder);
}

function place({ file, line, specifier }: Import): string {
  return `${file}:${String(line)} imports "${specifier}"`;
}

test("every folder of the engine imports only the folders below it", () => {
  const broken: string[] = [];
  for (const file of sourceFiles(ENGINE)) {
    const layer = layerOf(file);
    const allowed = ENGINE_LAYERS[layer];
    if (allowed === undefined) {
      broken.push(`${relative(ROOT, file)} lies in a folder that the table of layers does not name`);
      continue;
    }
    for (const found of importsOf(file)) {
      if (found.specifier.startsWith("node:")) {
        if (layer !== "platform/node") broken.push(`${place(found)}, but only platform/node may use Node`);
        continue;
      }
      if (!found.specifier.startsWith(".")) {
        // The addon is looked for at run time, and used where it was built.
        const isAddon = found.specifier === "rwkv-native" && found.file.endsWith("platform/node/native.ts");
        const isTokenizers = found.specifier === "@huggingface/tokenizers" && layer === "tokenizer";
        // An optional peer, looked for at run time.
        const isDawn = found.specifier === "webgpu" && found.file.endsWith("platform/node/webgpu.ts");
        const isJinja = found.specifier === "@huggingface/jinja" && layer === "chat";
        if (!isTokenizers && !isJinja && !isAddon && !isDawn)
          broken.push(`${place(found)}, which is no dependency of this folder`);
        continue;
      }
      const target = layerOf(resolve(dirname(file), found.specifier));
      if (target === layer || allowed.includes(target)) continue;
      if (found.isType && allowed.includes(`type:${target}`)) continue;
      broken.push(`${place(found)}, but ${layer} may import only ${allowed.join(", ") || "nothing"}`);
    }
  }
  expect(broken).toEqual([]);
});

test("only runtime/backends.ts names the concrete backends", () => {
  const broken: string[] = [];
  for (const file of sourceFiles(ENGINE)) {
    if (layerOf(file).startsWith("backends/")) continue;
    for (const found of importsOf(file)) {
      const isBackend = found.specifier.includes("/backends/");
      if (isBackend && found.file !== "packages/rwkv/src/runtime/backends.ts") broken.push(place(found));
    }
  }
  expect(broken).toEqual([]);
});

test("nothing that the browser's entry point reaches lies in platform/node", () => {
  const seen = new Map<string, string>();
  const queue = [join(ENGINE, "browser.ts")];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    for (const { specifier, isType } of importsOf(file)) {
      const target = resolve(dirname(file), specifier);
      // The built kernels are made by the build and import nothing.
      if (!specifier.startsWith(".") || isType || seen.has(target) || target.includes("/generated/"))
        continue;
      seen.set(target, file);
      queue.push(target);
    }
  }
  expect(seen.size).toBeGreaterThan(30);
  expect([...seen].filter(([target]) => layerOf(target) === "platform/node")).toEqual([]);
});

test("packages import only the packages before them, and those by name", () => {
  const broken: string[] = [];
  PACKAGES.forEach(({ folder }, position) => {
    for (const file of sourceFiles(join(ROOT, folder, "src"))) {
      for (const found of importsOf(file)) {
        const target = PACKAGES.findIndex(
          ({ name }) => found.specifier === name || found.specifier.startsWith(`${name}/`),
        );
        if (target >= position && found.specifier !== "rwkv-native") broken.push(place(found));
        const leaves =
          found.specifier.startsWith(".") &&
          !resolve(dirname(file), found.specifier).startsWith(join(ROOT, folder));
        if (leaves) broken.push(`${place(found)}, which leaves its package`);
      }
    }
  });
  expect(broken).toEqual([]);
});

test("the reader of imports sees static, type-only, re-exported and dynamic ones", () => {
  const files = [...sourceFiles(ENGINE)].map((file) => importsOf(file));
  const all = files.flat();
  expect(all.some(({ isType }) => isType)).toBe(true);
  expect(
    all.some(({ file, specifier }) => file.endsWith("runtime/backends.ts") && specifier.includes("/cpu/")),
  ).toBe(true);
  expect(all.some(({ file, specifier }) => file.endsWith("src/node.ts") && specifier === "./index.ts")).toBe(
    true,
  );
});
