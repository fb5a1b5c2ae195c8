// npm run bench:start: how long the demo's first words take: from the start of the process to the first text that the model
// adds, beside what an empty Node process takes to start and end. Prints a table; writes JSON.

import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { describeMachine, parseCount, print, progress, runScript, writeResult } from "./script.ts";
import { formatSpread, spreadOf } from "./statistics.ts";
import { markdownTable } from "./table.ts";

const COMMAND = resolve(import.meta.dirname, "../../apps/cli/bin/rwkv.js");
const PROMPT = "Once upon a time";
/** Pauses between two words would not count. */
const MAX_TOKENS = 40;

interface Turn {
  readonly nodeMs: number;
  readonly firstTextMs: number;
  readonly endMs: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "7" } } });
  const rounds = parseCount("rounds", values.rounds);
  const turns: Turn[] = [];
  // The first one reads files that later ones find in memory; it is told apart.
  for (let i = 0; i <= rounds; i++) {
    const nodeMs = (await time(["-e", ""], null)).endMs;
    const { firstTextMs, endMs } = await time(
      [COMMAND, "generate", PROMPT, "--max-tokens", String(MAX_TOKENS)],
      PROMPT,
    );
    if (i === 0) progress(`first run: first text after ${firstTextMs.toFixed(0)} ms`);
    else turns.push({ nodeMs, firstTextMs, endMs });
  }
  const row = (name: string, of: (turn: Turn) => number): string[] => [
    name,
    formatSpread(spreadOf(turns.map(of)), 0),
  ];
  const table = [
    ["from the start of the process, ms", "median (least to most)"],
    row("first text of the demo model", ({ firstTextMs }) => firstTextMs),
    row(`end, after ${MAX_TOKENS} tokens`, ({ endMs }) => endMs),
    row("an empty Node process, to its end", ({ nodeMs }) => nodeMs),
  ];
  print(markdownTable(table, 1));
  writeResult("start.json", `${JSON.stringify({ machine: describeMachine(), turns }, null, 2)}\n`);
}

/**
 * Runs Node and waits for its end.
 * @param prompt - what does not count as text; null where nothing is written
 * @throws Error if the process fails
 */
function time(
  args: readonly string[],
  prompt: string | null,
): Promise<{ firstTextMs: number; endMs: number }> {
  return new Promise((fulfil, reject) => {
    const start = performance.now();
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let [text, errors, firstTextMs] = ["", "", 0];
    child.stdout.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
      if (firstTextMs === 0 && text !== prompt) firstTextMs = performance.now() - start;
    });
    child.stderr.setEncoding("utf8").on("data", (piece: string) => {
      errors += piece;
    });
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) fulfil({ firstTextMs, endMs: performance.now() - start });
      else reject(new Error(`rwkv ${args.slice(1).join(" ")} ended with ${code}: ${errors}`));
    });
  });
}

await runScript(main);
