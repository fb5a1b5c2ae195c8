// Runs the built `rwkv` command on a pseudo-terminal, by the `script` of util-linux: line discipline, Ctrl-C and window
// sizes are the system's own.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { LAUNCHER, NATIVE } from "./cli.ts";

/** Why there can be no terminal here; null if there can. */
export const NO_TERMINAL = reasonAgainst();

function reasonAgainst(): string | null {
  const { stdout, error } = spawnSync("script", ["--version"], { encoding: "utf8" });
  if (error !== undefined) return `"script" of util-linux is not here (${error.message})`;
  return stdout.includes("util-linux") ? null : `"script" is not that of util-linux (${stdout.trim()})`;
}

/** Longest wait for some output; the machine may be busy. */
const TIMEOUT_MS = 60_000;

export const CTRL_C = "\u0003";
export const CTRL_D = "\u0004";
export const ENTER = "\r";
export const UP = "\u001b[A";

export class Terminal {
  readonly #child: ChildProcess;
  readonly #ttyFile: string;
  /** All that was shown, and how much of it `see` has passed. */
  #shown = "";
  #seen = 0;
  #onOutput: () => void = () => undefined;
  /** The exit code, when the command has ended. */
  readonly ended: Promise<number | null>;

  /**
   * @param args - of `rwkv`
   * @param ttyFile - a path for the name of the terminal
   */
  constructor(args: readonly string[], ttyFile: string) {
    this.#ttyFile = ttyFile;
    const words = [process.execPath, LAUNCHER, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
    const line = `stty cols 80 rows 24; tty > '${ttyFile}'; exec ${words.join(" ")}`;
    this.#child = spawn("script", ["--quiet", "--flush", "--return", "--command", line, "/dev/null"], {
      env: { ...process.env, RWKV_MODEL: undefined, RWKV_NATIVE: NATIVE, NO_COLOR: "1", TERM: "xterm" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#shown += text;
      this.#onOutput();
    });
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code) => {
        resolve(code);
        this.#onOutput();
      });
    });
  }

  send(text: string): void {
    this.#child.stdin!.write(text);
  }

  /**
   * Waits until this is shown, after all that was seen before.
   * @returns what was shown up to its end
   */
  async see(what: string | RegExp): Promise<string> {
    const deadline = Date.now() + TIMEOUT_MS;
    for (;;) {
      const isOver = this.#child.exitCode !== null || Date.now() > deadline;
      const fresh = plain(this.#shown.slice(this.#seen));
      if (typeof what === "string" ? fresh.includes(what) : what.test(fresh)) {
        this.#seen = this.#shown.length;
        return fresh;
      }
      if (isOver) {
        throw new Error(
          `the terminal never showed ${String(what)}, but ${JSON.stringify(fresh.slice(-500))}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadline - Date.now());
        this.#onOutput = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Gives the window another size, which the command hears of. */
  resize(columns: number, rows: number): void {
    const tty = readFileSync(this.#ttyFile, "utf8").trim();
    const args = ["-F", tty, "cols", String(columns), "rows", String(rows)];
    const { status, stderr } = spawnSync("stty", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`stty failed: ${stderr}`);
  }

  /** Ends the command, however far it has come. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** Without escape sequences and with plain line ends. */
function plain(text: string): string {
  // eslint-disable-next-line no-control-regex -- escape sequences begin with a control character
  return text.replaceAll(/\u001b\[[0-9;?]*[a-zA-Z]/g, "").replaceAll(/\r+\n/g, "\n");
}
