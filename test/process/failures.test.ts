// What goes wrong on people's machines: each ends with a sentence on stderr, the right exit code, and nothing lost.

import { execFileSync, type ChildProcess } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HAS_DEMO_MODEL, LAUNCHER, run, rwkv, temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
const MODEL = at("tiny.safetensors");

beforeAll(() => {
  writeFileSync(MODEL, tinyModel());
  writeFileSync(at("other.safetensors"), tinyModel({ seed: 2 }));
});
afterAll(() => folder.remove());

const GENERATE = ["generate", "Hi", "--max-tokens", "3"];

describe("wrong usage ends with 2", () => {
  test.each([
    [
      "an unknown flag",
      [...GENERATE, "--model", MODEL, "--temprature", "1"],
      /unknown option '--temprature'/,
    ],
    [
      "an unknown flag in place of a needed one",
      ["generate", "Hi", "--max-token", "3"],
      /unknown option '--max-token'.*--max-tokens/s,
    ],
    ["no --tokens", ["logits", "--model", MODEL, "--json"], /--tokens/],
    ["an unknown command", ["generat"], /unknown command 'generat'/],
    ["no --max-tokens", ["generate", "Hi", "--model", MODEL], /--max-tokens/],
    ["a number that is none", ["generate", "Hi", "--max-tokens", "many", "--model", MODEL], /whole number/],
    ["a temperature out of range", [...GENERATE, "--model", MODEL, "--temperature=-1"], /temperature/],
    ["an unknown backend", [...GENERATE, "--model", MODEL, "--backend", "cuda"], /cpu, webgpu, reference/],
    [
      "an unknown device",
      [...GENERATE, "--model", MODEL, "--device", "webgpu:"],
      /cpu, webgpu, or webgpu:ADAPTER/,
    ],
    [
      "a device twice",
      [...GENERATE, "--model", MODEL, "--device", "cpu", "--backend", "auto"],
      /--backend is another name of --device/,
    ],
    ["an id that the model lacks", ["logits", "--model", MODEL, "--tokens", "256", "--json"], /0 to 255/],
    ["ids that are none", ["logits", "--model", MODEL, "--tokens", "1,x", "--json"], /whole number/],
    ["logits without a destination", ["logits", "--model", MODEL, "--tokens", "1"], /--json.*--out/],
    ["a target of unknown format", ["convert", MODEL, at("out.bin")], /safetensors, \*\.pth or \*\.gguf/],
    ["the model as its own target", ["convert", MODEL, MODEL], /another name/],
    ["q8_0 in safetensors", ["convert", MODEL, at("q.safetensors"), "--dtype", "q8_0"], /GGUF/],
    ["q8_0 in .pth", ["convert", MODEL, at("q.pth"), "--dtype", "q8_0"], /pth has no q8_0.*GGUF/],
  ])("%s", async (_, args, message) => {
    const { code, stdout, stderr } = await rwkv(args);
    expect(stderr).toMatch(message);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });
});

test.skipIf(HAS_DEMO_MODEL)("no model, and no demo model either, is wrong usage", async () => {
  const { code, stdout, stderr } = await rwkv(GENERATE);
  expect(stderr).toMatch(/--model FILE or set RWKV_MODEL/);
  expect([code, stdout]).toEqual([2, ""]);
});

describe("a failure ends with 1 and names the file", () => {
  test("a missing file", async () => {
    const { code, stderr } = await rwkv([...GENERATE, "--model", at("missing.pth")]);
    expect(stderr).toContain(at("missing.pth"));
    expect(code).toBe(1);
  });

  test("a directory", async () => {
    const { code, stderr } = await rwkv([...GENERATE, "--model", folder.path]);
    expect(stderr).toMatch(/director|folder/);
    expect(stderr).toContain(folder.path);
    expect(code).toBe(1);
  });

  test("a file that may not be read", async (context) => {
    const locked = at("locked.safetensors");
    writeFileSync(locked, tinyModel());
    chmodSync(locked, 0o600);
    chmodSync(folder.path, 0o755);
    const isRoot = process.getuid?.() === 0;
    // Root may read everything, so another user tries.
    const user = isRoot ? { uid: 65534, gid: 65534 } : {};
    if (!isRoot) chmodSync(locked, 0o000);
    const canStart = await rwkv(["--version"], user).then(
      ({ code }) => code === 0,
      () => false,
    );
    if (!canStart) {
      console.log("skipped: the other user may not run this Node or read this folder");
      context.skip();
    }
    const { code, stderr } = await rwkv([...GENERATE, "--model", locked], user);
    expect(stderr).toMatch(/permission|may not be read/);
    expect(stderr).toContain(locked);
    expect(code).toBe(1);
  });

  test("a truncated model", async () => {
    const cut = at("cut.safetensors");
    writeFileSync(cut, tinyModel().subarray(0, 40_000));
    const { code, stderr } = await rwkv([...GENERATE, "--model", cut]);
    expect(stderr).toMatch(/cut\.safetensors.*cut short/s);
    expect(code).toBe(1);
  });

  test("something that is no model", async () => {
    const page = at("page.pth");
    writeFileSync(page, "<!DOCTYPE html><html>Not found</html>");
    const { code, stderr } = await rwkv(["inspect", page]);
    expect(stderr).toMatch(/web page/);
    expect(code).toBe(1);
  });

  test("a tensor too many is refused by name, not ignored", async () => {
    const extra = at("extra.safetensors");
    writeFileSync(
      extra,
      tinyModel({
        edit: (tensors) => tensors.set("blocks.1.att.mystery", { shape: [64], values: new Float32Array(64) }),
      }),
    );
    const { code, stderr } = await rwkv([...GENERATE, "--model", extra]);
    expect(stderr).toContain("blocks.1.att.mystery");
    expect(code).toBe(1);
  });

  test("a state of another model, naming both", async () => {
    const state = at("mine.state");
    await rwkv([...GENERATE, "--model", MODEL, "--save-state", state]);
    const { code, stderr } = await rwkv([...GENERATE, "--model", at("other.safetensors"), "--state", state]);
    expect(stderr).toContain("tiny.safetensors");
    expect(stderr).toContain("other.safetensors");
    expect(code).not.toBe(0);
  });

  test("an unwritable target folder; the result is not lost silently", async () => {
    const { code, stderr } = await rwkv(["convert", MODEL, at("no/such/folder/out.gguf")]);
    expect(stderr).toContain("no/such/folder");
    expect(code).toBe(1);
  });
});

describe("converting leaves the old target as it was", () => {
  test("when the source is damaged", async () => {
    const target = at("kept.gguf");
    writeFileSync(target, "precious");
    const cut = at("cut2.safetensors");
    writeFileSync(cut, tinyModel().subarray(0, 30_000));
    const { code } = await rwkv(["convert", cut, target]);
    expect(code).toBe(1);
    expect(readFileSync(target, "utf8")).toBe("precious");
    expect(readdirSync(folder.path).filter((name) => name.includes("kept") && name !== "kept.gguf")).toEqual(
      [],
    );
  });

  test("when the disk is full", async (context) => {
    const disk = at("disk");
    mkdirSync(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], { stdio: "pipe" });
    } catch {
      console.log("skipped: mounting a small disk needs root");
      context.skip();
    }
    try {
      const target = join(disk, "out.safetensors");
      writeFileSync(target, "precious");
      const { code, stdout, stderr } = await rwkv(["convert", MODEL, target]);
      expect(stderr).toMatch(/no room for more/);
      expect(stdout).toBe("");
      expect(code).toBe(1);
      expect(readFileSync(target, "utf8")).toBe("precious");
      expect(readdirSync(disk)).toEqual(["out.safetensors"]);
    } finally {
      execFileSync("umount", [disk]);
    }
  });
});

/** Sends SIGINT when the process says that the model is there. */
function interruptOnceLoaded(child: ChildProcess): void {
  let said = "";
  child.stderr!.on("data", (piece: Buffer) => {
    const wasLoaded = said.includes("weights loaded");
    said += piece.toString();
    if (!wasLoaded && said.includes("weights loaded")) child.kill("SIGINT");
  });
}

describe("Ctrl-C in mid-generation", () => {
  const long = [
    "generate",
    "Hi",
    "--model",
    MODEL,
    "--max-tokens",
    "10000000",
    "--seed",
    "1",
    "--stop-tokens",
    "",
  ];

  test("keeps what was printed, saves the state, and ends with 130", async () => {
    const state = at("interrupted.state");
    const { code, stdout, stderr } = await rwkv([...long, "--save-state", state], {
      onStart: (child) => child.stdout!.once("data", () => child.kill("SIGINT")),
    });
    expect(code).toBe(130);
    expect(stdout.length).toBeGreaterThan(0);
    expect(stderr).toBe("");
    expect(existsSync(state)).toBe(true);
    expect((await rwkv(["generate", "", "--model", MODEL, "--max-tokens", "1", "--state", state])).code).toBe(
      0,
    );
  });

  test("--json still prints its result, with finishReason aborted", async () => {
    const { code, stdout } = await rwkv([...long, "--json", "--verbose"], { onStart: interruptOnceLoaded });
    expect(code).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ finishReason: "aborted" });
  });

  test("an evaluation ends with 130 and prints no numbers", async () => {
    const cases = at("long.jsonl");
    writeFileSync(cases, '{"prompt":"Hi","answer":"ho"}\n'.repeat(100_000));
    const args = ["eval", "--model", MODEL, "--exact", cases, "--verbose"];
    const { code, stdout } = await rwkv(args, { onStart: interruptOnceLoaded });
    expect([code, stdout]).toEqual([130, ""]);
  });
});

test("a closed pipe ends the command quietly", async () => {
  const command = `set -o pipefail; "${process.execPath}" "${LAUNCHER}" generate Hi --model "${MODEL}" --max-tokens 10000000 --seed 1 --stop-tokens "" | head -c 100`;
  const { code, stdout, stderr } = await run("bash", ["-c", command]);
  expect(stdout.length).toBeGreaterThan(0);
  expect(stderr).toBe("");
  expect(code).toBe(0);
});
