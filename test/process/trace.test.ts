// rwkv trace and rwkv trace diff as people run them.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { loadModel, readTrace } from "../../packages/rwkv/src/node.ts";
import { rwkv, temporaryFolder, type Finished } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
const MODEL = at("tiny.safetensors");
const CHANGED = at("changed.safetensors");
const TOKENS = "72,105,32,33";

/** The command in the folder of its files. */
const run = (...args: string[]): Promise<Finished> => rwkv(args, { cwd: folder.path });

beforeAll(async () => {
  writeFileSync(MODEL, tinyModel());
  const edit = (tensors: Map<string, { shape: number[]; values: Float32Array }>): void => {
    const { shape, values } = tensors.get("blocks.1.att.value.weight")!;
    values[5 * shape[1]! + 7]! += 0.25;
  };
  writeFileSync(CHANGED, tinyModel({ edit }));
  for (const [out, ...args] of [
    ["a.safetensors"],
    ["a.json"],
    ["reference.safetensors", "--backend", "reference"],
    ["changed-trace.safetensors", "--model", CHANGED],
  ] as const) {
    const { code, stdout, stderr } = await run(
      ...["trace", "--model", MODEL, "--tokens", TOKENS, "--out", out, ...args],
    );
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^${out}: \\d+ values, \\d+\\.\\d+ MB in f32; .+\\n$`));
  }
  const wasm = ["trace", "--model", MODEL, "--tokens", TOKENS, "--out", "wasm.safetensors", "--threads", "1"];
  const { stdout } = await rwkv(wasm, { cwd: folder.path, env: { RWKV_NATIVE: "0" } });
  expect(stdout).toContain("cpu: WebAssembly");
});
afterAll(() => folder.remove());

describe("trace", () => {
  test("what is written is what the library traces, in either format", async () => {
    await using model = await loadModel(bytesSource(tinyModel(), "tiny.safetensors"));
    const want = await model.trace(TOKENS.split(",").map(Number));
    for (const name of ["a.safetensors", "a.json"]) {
      const got = await readTrace(at(name));
      expect(got.tensors).toEqual(want.tensors);
      expect([...got.tensors.keys()]).toEqual(model.traceNames());
      expect(got.tokens).toEqual(want.tokens);
      expect(got.origin).toMatchObject({ model: "tiny.safetensors", modelVersion: "7", backend: "cpu" });
    }
  });

  test("its logits are those of rwkv logits, to the bit", async () => {
    await run("logits", "--model", MODEL, "--tokens", TOKENS, "--all", "--out", "logits.f32");
    const head = (await readTrace(at("a.safetensors"))).tensors.get("head")!;
    expect(Buffer.from(head.values.buffer)).toEqual(readFileSync(at("logits.f32")));
  });

  test("a text is read as its tokens, also from stdin", async () => {
    const args = ["trace", "--model", MODEL, "--names", "emb", "--out"];
    await run(...args, "text.json", "--prompt", "Hi !");
    await rwkv([...args, "stdin.json", "--prompt", "-"], { cwd: folder.path, stdin: "Hi !" });
    expect(readFileSync(at("text.json"), "utf8")).toBe(readFileSync(at("stdin.json"), "utf8"));
    expect((await readTrace(at("text.json"))).tokens).toEqual(TOKENS.split(",").map(Number));
  });

  test("--layers and --names choose, --list prints the names", async () => {
    const { stdout } = await run("trace", "--model", MODEL, "--list");
    const all = stdout.trimEnd().split("\n");
    await run(
      ...[
        "trace",
        "--model",
        MODEL,
        "--tokens",
        "1",
        "--layers",
        "0-1",
        "--names",
        "*.att.k",
        "--names",
        "*.wkv",
      ],
      ...["--out", "few.json"],
    );
    const chosen = [...(await readTrace(at("few.json"))).tensors.keys()];
    expect(chosen).toEqual(all.filter((name) => /^blocks\.[01]\.(att\.k|.*\.wkv)$/.test(name)));
    expect(chosen.length).toBe(6);
    await run("trace", "--model", MODEL, "--tokens", "1", "--layers", "1", "--out", "few.json");
    expect([...(await readTrace(at("few.json"))).tensors.keys()]).toEqual(
      all.filter((name) => name.startsWith("blocks.1.")),
    );
  });

  test("--state starts from a saved session", async () => {
    await run(
      ...["logits", "--model", MODEL, "--tokens", "72,105", "--out", "x.f32", "--save-state", "s.state"],
    );
    await run(
      "trace",
      "--model",
      MODEL,
      "--tokens",
      "32,33",
      "--state",
      "s.state",
      "--out",
      "rest.safetensors",
    );
    const [rest, whole] = [await readTrace(at("rest.safetensors")), await readTrace(at("a.safetensors"))];
    const head = whole.tensors.get("head")!;
    expect(rest.tensors.get("head")!.values).toEqual(head.values.slice(2 * head.shape[1]!));
  });

  test.each([
    ["no prompt", ["--out", "no.json"], "--prompt TEXT, or --tokens"],
    ["two prompts", ["--prompt", "a", "--tokens", "1", "--out", "no.json"], "--prompt TEXT, or --tokens"],
    ["no target", ["--tokens", "1"], "--out FILE.safetensors or --out FILE.json"],
    ["another format", ["--tokens", "1", "--out", "no.txt"], "--out is no.txt"],
    ["the model as target", ["--tokens", "1", "--out", MODEL], "is the model itself"],
    [
      "an unknown name",
      ["--tokens", "1", "--names", "foo", "--out", "no.json"],
      'called "foo". There are emb,',
    ],
    ["an unknown layer", ["--tokens", "1", "--layers", "9", "--out", "no.json"], "Layer 9 is unknown"],
    ["no layers", ["--tokens", "1", "--layers", "1-", "--out", "no.json"], "numbers and ranges"],
    ["layers backwards", ["--tokens", "1", "--layers", "2-1", "--out", "no.json"], "numbers and ranges"],
    ["an unknown token", ["--tokens", "999999", "--out", "no.json"], "Token 999999 is unknown"],
    ["an unknown subcommand", ["dif"], "too many arguments"],
  ])("%s is wrong usage, and nothing is written", async (_name, args, message) => {
    const { code, stdout, stderr } = await run("trace", "--model", MODEL, ...args);
    expect(stderr).toContain(message);
    expect(stdout).toBe("");
    expect(code).toBe(2);
    expect(existsSync(at("no.json")) || existsSync(at("no.txt"))).toBe(false);
  });

  test("a target that cannot be written is a failure", async () => {
    const { code, stderr } = await run("trace", "--model", MODEL, "--tokens", "1", "--out", "no/where.json");
    expect(stderr).toMatch(/^rwkv: /);
    expect(code).toBe(1);
  });
});

describe("trace diff", () => {
  test("equal traces, in whatever format, give exit code 0", async () => {
    const { code, stdout, stderr } = await run("trace", "diff", "a.safetensors", "a.json");
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^All \d+ values are equal\.\n$/);
    expect(code).toBe(0);
  });

  test("backends part at once, but lie within a tolerance", async () => {
    const exact = await run("trace", "diff", "reference.safetensors", "a.safetensors");
    expect(exact.stdout).toMatch(/^They part at \S+ \(.*token \d+, index \d+\): /);
    expect(exact.code).toBe(1);
    const tolerance = ["--atol", "1e-4", "--rtol", "1e-3"];
    const { code, stdout } = await run(
      "trace",
      "diff",
      "reference.safetensors",
      "wasm.safetensors",
      ...tolerance,
    );
    expect(stdout).toMatch(
      /^All \d+ values are within atol 0\.0001 and rtol 0\.001; the largest difference, \S+, is in \S+\.\n$/,
    );
    expect(code).toBe(0);
  });

  test("a weight that was changed is found at the first place it goes into", async () => {
    const files = ["a.safetensors", "changed-trace.safetensors"];
    const { code, stdout, stderr } = await run("trace", "diff", ...files);
    expect(stderr).toBe("");
    expect(code).toBe(1);
    const [place, empty, count, first] = stdout.split("\n");
    expect(place).toMatch(
      /^They part at blocks\.1\.att\.v \(layer 1, token 0, index 5\): -?\d\S+ in a\.safetensors, -?\d\S+ in changed-trace\.safetensors\.$/,
    );
    expect(empty).toBe("");
    expect(count).toMatch(/^\d+ of \d+ values are further apart than atol 0 and rtol 0 allow:$/);
    expect(first).toMatch(/^blocks\.1\.att\.v +4 of \d+ numbers, by up to \d\S+$/);
    const json = await run("trace", "diff", ...files, "--json");
    expect(json.code).toBe(1);
    const { first: found, tensors } = JSON.parse(json.stdout) as { first: object; tensors: object[] };
    expect(found).toMatchObject({ name: "blocks.1.att.v", layer: 1, token: 0, index: [5] });
    expect(tensors).toContainEqual(expect.objectContaining({ name: "emb", nBeyond: 0, maxDifference: 0 }));
  });

  test("what only one of them has is told", async () => {
    await run("trace", "--model", MODEL, "--tokens", TOKENS, "--layers", "1", "--out", "one.json");
    const { code, stdout } = await run("trace", "diff", "one.json", "a.safetensors");
    expect(stdout).toMatch(
      /^All \d+ values are equal\.\n\d+ values are in a\.safetensors alone, such as emb\.\n$/,
    );
    expect(code).toBe(0);
  });

  test("traces of different lengths, of nothing in common, and negative tolerances are wrong usage", async () => {
    await run("trace", "--model", MODEL, "--tokens", "1", "--out", "short.json");
    const short = await run("trace", "diff", "short.json", "a.json");
    expect(short.stderr).toContain("emb is [1, 64] in the first trace and [4, 64] in the second");
    expect(short.code).toBe(2);
    const model = await run("trace", "diff", "a.json", MODEL);
    expect(model.stderr).toContain("no name in common");
    expect(model.code).toBe(2);
    const negative = await run("trace", "diff", "a.json", "a.json", "--atol=-1");
    expect(negative.stderr).toContain("atol is -1");
    expect(negative.code).toBe(2);
  });

  test("files that are missing or no traces are failures", async () => {
    const missing = await run("trace", "diff", "a.json", "nowhere.json");
    expect(missing.stderr).toContain("nowhere.json does not exist");
    expect(missing.code).toBe(1);
    writeFileSync(at("other.json"), '{"format": "something else"}');
    const other = await run("trace", "diff", "a.json", "other.json");
    expect(other.stderr).toContain("other.json: expected a trace");
    expect(other.code).toBe(1);
  });

  test("mistyped flags and missing arguments are wrong usage", async () => {
    for (const args of [
      ["a.json"],
      ["a.json", "a.json", "--atoll", "1"],
      ["a.json", "a.json", "--atol", "x"],
    ]) {
      const { code, stderr } = await run("trace", "diff", ...args);
      expect(stderr).toContain("--help shows the options");
      expect(code).toBe(2);
    }
    const help = await run("trace", "diff", "--help");
    expect(help.stdout).toContain("--rtol");
    expect(help.code).toBe(0);
  });
});
