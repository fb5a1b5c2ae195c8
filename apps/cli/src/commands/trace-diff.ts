// rwkv trace diff: the first place where two traces part.

import type { Command } from "commander";
import { diffTraces, readTrace, type TraceDifference, type TracePlace } from "rwkv";
import { EXIT } from "../errors.ts";
import { parseNumber } from "../options.ts";
import { writeLine } from "../output.ts";

interface DiffFlags {
  readonly atol: number;
  readonly rtol: number;
  readonly json?: boolean;
}

/** Values that the text lists. */
const MOST_LISTED = 20;

export function addTraceDiff(trace: Command): void {
  trace
    .command("diff")
    .description("Name the first value, token and index at which two traces part. Exit code 1 if they do.")
    .argument("<a>", "trace, taken for exact; .safetensors, .json, or a .pth with tensors of the same names")
    .argument("<b>", "trace to compare with it")
    .option("--atol <a>", "differences of up to a + r * |value in A| are none", parseNumber, 0)
    .option("--rtol <r>", "see --atol", parseNumber, 0)
    .option("--json", "print everything as JSON")
    .addHelpText(
      "after",
      `
Examples:
  $ rwkv trace diff before.safetensors after.safetensors
  $ rwkv trace diff reference.safetensors cpu.safetensors --atol 1e-4 --rtol 1e-3
  $ rwkv trace diff a.json b.json --json | jq .first`,
    )
    .action((a: string, b: string, flags: DiffFlags) => run(a, b, flags));
}

async function run(a: string, b: string, flags: DiffFlags): Promise<void> {
  const difference = diffTraces(await readTrace(a), await readTrace(b), flags);
  await writeLine(
    flags.json === true ? JSON.stringify(difference, jsonValue) : toText(difference, a, b, flags),
  );
  if (difference.first !== null) process.exitCode = EXIT.failure;
}

/** JSON has no numbers that are not finite. */
function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

function toText(difference: TraceDifference, a: string, b: string, { atol, rtol }: DiffFlags): string {
  const { first, tensors, onlyInFirst, onlyInSecond } = difference;
  const lines: string[] = [];
  const allowed = `atol ${atol} and rtol ${rtol}`;
  if (first === null) {
    const worst = tensors.reduce((most, next) => (next.maxDifference > most.maxDifference ? next : most));
    lines.push(
      worst.maxDifference === 0
        ? `All ${tensors.length} values are equal.`
        : `All ${tensors.length} values are within ${allowed}; the largest difference, ` +
            `${worst.maxDifference.toPrecision(3)}, is in ${worst.name}.`,
    );
  } else {
    const beyond = tensors.filter(({ nBeyond }) => nBeyond > 0);
    const width = Math.max(...beyond.slice(0, MOST_LISTED).map(({ name }) => name.length));
    lines.push(
      placeText(first, a, b),
      "",
      `${beyond.length} of ${tensors.length} values are further apart than ${allowed} allow:`,
      ...beyond
        .slice(0, MOST_LISTED)
        .map(
          ({ name, nBeyond, nElements, maxDifference }) =>
            `${name.padEnd(width)}  ${nBeyond} of ${nElements} numbers, by up to ${maxDifference.toPrecision(3)}`,
        ),
    );
    if (beyond.length > MOST_LISTED) lines.push(`and ${beyond.length - MOST_LISTED} more (--json lists all)`);
  }
  for (const [names, file] of [
    [onlyInFirst, a],
    [onlyInSecond, b],
  ] as const) {
    if (names.length > 0) lines.push(`${names.length} values are in ${file} alone, such as ${names[0]!}.`);
  }
  return lines.join("\n");
}

function placeText({ name, layer, token, index, values }: TracePlace, a: string, b: string): string {
  const places = [
    layer === null ? null : `layer ${layer}`,
    token === null ? "after the last token" : `token ${token}`,
    `index ${index.join(", ")}`,
  ];
  const [inA, inB] = values.map((value) => (Number.isFinite(value) ? value.toPrecision(9) : String(value)));
  return `They part at ${name} (${places.filter((place) => place !== null).join(", ")}): ${inA!} in ${a}, ${inB!} in ${b}.`;
}
