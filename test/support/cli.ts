// Runs the built `rwkv` command as a real process.

import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const ROOT = resolve(import.meta.dirname, "../..");
export const LAUNCHER = join(ROOT, "apps/cli/bin/rwkv.js");
/** Whether the native addon was built. */
export const HAS_ADDON = existsSync(join(ROOT, "packages/native/build/Release/rwkv_native.node"));
/** Whether the demo model is installed. */
export const HAS_DEMO_MODEL = existsSync(join(ROOT, "node_modules/rwkv-demo-model/model.safetensors"));
/** Where it was not, asking for WebAssembly keeps the line that says so from stderr. */
export const NATIVE = HAS_ADDON ? undefined : "0";

export interface Finished {
  /** Null if a signal ended the process. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
}

export interface RunOptions extends SpawnOptions {
  readonly stdin?: string | Uint8Array;
  /** Called with the process once it runs. */
  readonly onStart?: (child: ChildProcess) => void;
}

/** Runs `node rwkv.js ARGS` to its end. */
export function rwkv(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return run(process.execPath, [LAUNCHER, ...args], options);
}

export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { stdin, onStart, ...spawnOptions } = options;
  return new Promise((resolveRun, reject) => {
    const env = {
      ...process.env,
      RWKV_MODEL: undefined,
      RWKV_NATIVE: NATIVE,
      NO_COLOR: "1",
      ...spawnOptions.env,
    };
    const child = spawn(command, args, { ...spawnOptions, env, stdio: ["pipe", "pipe", "pipe"] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (piece: Buffer) => stdout.push(piece));
    child.stderr.on("data", (piece: Buffer) => stderr.push(piece));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const stdoutBytes = Buffer.concat(stdout);
      resolveRun({
        code,
        signal,
        stdoutBytes,
        stdout: stdoutBytes.toString("utf8"),
        stderr: Buffer.concat(stderr).toString("utf8"),
      });
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(stdin ?? "");
    onStart?.(child);
  });
}

/** A folder that is removed when the test file has ended. */
export function temporaryFolder(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "rwkv-test-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
