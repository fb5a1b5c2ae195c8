// The examples in the documents are compiled against the built package and run, on a small model under the names that
// the examples use.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemorySink } from "../packages/rwkv/src/formats/safetensors/testing.ts";
import { writeAdapter } from "../packages/rwkv/src/node.ts";
import { ROOT, run, rwkv } from "./support/cli.ts";
import { tinyModel } from "./support/tiny-model.ts";

// Inside the clone, so that `import "rwkv"` finds the workspace.
const FOLDER = join(ROOT, "node_modules", ".cache", `rwkv-examples-${process.pid}`);

interface Example {
  readonly title: string;
  readonly code: string;
}

function examplesOf(language: string): Example[] {
  const documents = [
    "README.md",
    ...readdirSync(join(ROOT, "docs"))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `docs/${name}`),
  ];
  return documents.flatMap((document) => {
    const text = readFileSync(join(ROOT, document), "utf8");
    const blocks = [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, "gm"))];
    return blocks.map((match) => ({
      title: `${document}:${text.slice(0, match.index).split("\n").length}`,
      code: match[1]!,
    }));
  });
}

beforeAll(async () => {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, "model.pth"), tinyModel());
  writeFileSync(join(FOLDER, "book.txt"), "A very short book. ".repeat(20));
  const [a, b] = [new Float32Array(2 * 64).fill(0.1), new Float32Array(64 * 2).fill(0.1)]; // rank 2, 64 wide
  const adapter = new MemorySink();
  await writeAdapter(
    adapter,
    { alpha: 4, pairs: [{ name: "blocks.0.att.key", rank: 2, a, b }] },
    { format: "pth" },
  );
  writeFileSync(join(FOLDER, "adapter.pth"), adapter.bytes());
  const { code, stderr } = await rwkv(["convert", "model.pth", "model.gguf"], { cwd: FOLDER });
  expect(stderr).toBe("");
  expect(code).toBe(0);
});
afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

describe("TypeScript", () => {
  const examples = examplesOf("ts");

  test("there are examples in README.md and in docs/", () => {
    expect(examples.some(({ title }) => title.startsWith("README.md"))).toBe(true);
    expect(examples.some(({ title }) => title.startsWith("docs/"))).toBe(true);
  });

  test("all compile under the project's own strict options", () => {
    const files = examples.map(({ code }, i) => {
      const file = join(FOLDER, `example-${i}.mts`);
      writeFileSync(file, code);
      return file;
    });
    const config = ts.readConfigFile(join(ROOT, "tsconfig.base.json"), (path) => ts.sys.readFile(path))
      .config as {
      compilerOptions: object;
    };
    const { options, errors } = ts.convertCompilerOptionsFromJson(
      { ...config.compilerOptions, composite: false, noEmit: true, noUnusedLocals: true },
      ROOT,
    );
    expect(errors).toEqual([]);
    const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram(files, options));
    const messages = diagnostics.map(({ file, start, messageText }) => {
      const place =
        file === undefined
          ? ""
          : `${relative(FOLDER, file.fileName)}:${file.getLineAndCharacterOfPosition(start ?? 0).line + 1}`;
      return `${place} ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
    });
    expect(messages).toEqual([]);
  });

  test.each(examples)("$title runs", async ({ title, code }) => {
    const file = join(FOLDER, `${title.replaceAll(/\W/g, "-")}.mjs`);
    const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
    writeFileSync(file, ts.transpileModule(code, { compilerOptions }).outputText);
    const result = await run(process.execPath, [file], { cwd: FOLDER });
    expect(result.stderr).toBe("");
    expect(result.code).toBe(0);
  });
});

describe("shell", () => {
  const lines = examplesOf("sh").flatMap(({ title, code }) =>
    code
      .split("\n")
      .filter((line) => line.startsWith("rwkv "))
      .map((line) => ({ title, line })),
  );

  test("there are examples of the command", () => {
    expect(lines.length).toBeGreaterThan(2);
  });

  test.each(lines)("$title: $line", async ({ line }) => {
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2]!);
    const { code, stdout, stderr } = await rwkv(words.slice(1), { cwd: FOLDER });
    expect(stderr).toBe("");
    expect(code).toBe(0);
    const writesFile = words[1] === "convert" || (words[1] === "quantize" && !words.includes("--preview"));
    if (!writesFile) expect(stdout).not.toBe("");
  });
});
