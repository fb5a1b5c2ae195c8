// How a kernel is written down. Its text is WGSL that reads operand `x` as `x(row, i)` and writes it as `set_x(row, i, value)`;
// where an operand lies is not in the text, so that one compiled pipeline serves all models. Handles in one buffer share
// a binding, which also allows operations in place.

import type { Place } from "../memory.ts";

/** A tensor that a kernel touches. */
export interface KernelOperand {
  /** In the text. */
  readonly name: string;
  readonly place: Place;
  readonly isWritten: boolean;
  /**
   * What the words are read as; `u32` also where values are only moved. Of `vec4u` element i is the i-th four words of the
   * row, and the text may also read single words as `x_word(row, i)`; places are multiples of four words then.
   */
  readonly type: "f32" | "u32" | "vec4u";
}

/** A number that a kernel reads as `p.name`. */
export interface KernelScalar {
  readonly name: string;
  readonly type: "f32" | "u32";
  readonly value: number;
}

/** Of what a dispatch has one workgroup or more in its second dimension. */
export type GridRows = "token" | "logit" | "run";

/** A text, and the steps that it is for. */
export interface KernelVariant {
  /** Used for steps of up to as many rows; Infinity for the last one. */
  readonly maxRows: number;
  /** Rows that one workgroup works on. */
  readonly rowsPerGroup: number;
  /** Workgroups in the first dimension. */
  readonly nGroups: number;
  /** WGSL extensions that the text needs. */
  readonly extensions?: readonly string[];
  /** Ends with `fn main`; the workgroup's id is (part of the row, row or run). */
  readonly text: string;
}

/** One dispatch. */
export interface KernelCall {
  /** For messages and lists: the operation and its destination. */
  readonly label: string;
  readonly operands: readonly KernelOperand[];
  readonly scalars: readonly KernelScalar[];
  readonly rows: GridRows;
  /** From few rows to many. */
  readonly variants: readonly KernelVariant[];
  /** Multiply-adds per row, to cut long steps; 0 where they do not count. */
  readonly work: number;
}

/** Most rows of one step: their table fits into the smallest uniform buffer that every device has. */
export const MAX_STEP_ROWS = 2048;
/** Vectors of four words in that table: one per run, one per four rows twice. */
export const STEP_VECTORS = 1 + MAX_STEP_ROWS + MAX_STEP_ROWS / 2;

/**
 * The table of a step: (token rows, logit rows, where the runs of rows begin, where the wanted rows begin), then
 * (first row, rows, slot, 0) of each run, then for each row the number of its run, then the wanted rows, four to a vector.
 */
const STEP_TEXT = `
struct Step { head: vec4u, table: array<vec4u, ${STEP_VECTORS - 1}> }
fn n_tokens() -> u32 { return step.head.x; }
fn n_logits() -> u32 { return step.head.y; }
struct Run { first: u32, n: u32, slot: u32 }
fn run_of(i: u32) -> Run { let r = step.table[i]; return Run(r.x, r.y, r.z); }
fn run_of_row(t: u32) -> Run { return run_of(step.table[step.head.z + (t >> 2u)][t & 3u]); }
fn wanted_row(i: u32) -> u32 { return step.table[step.head.w + (i >> 2u)][i & 3u]; }
`;

/** A buffer of a kernel, by the order of bindings. */
export interface KernelBinding {
  readonly place: Place;
  readonly isWritten: boolean;
}

/** The whole text of a kernel, and what it is bound to after the uniforms: binding 0 parameters, 1 the step's table. */
export interface AssembledKernel {
  readonly bindings: readonly KernelBinding[];
  /** For each variant. */
  readonly texts: readonly string[];
}

export function assemble({ operands, scalars, variants }: KernelCall): AssembledKernel {
  const memories = [...new Set(operands.map(({ place }) => place.memory))];
  const bindings = memories.map((memory): KernelBinding => {
    const here = operands.filter(({ place }) => place.memory === memory);
    return { place: here[0]!.place, isWritten: here.some(({ isWritten }) => isWritten) };
  });
  const lines: string[] = ["struct Parameters {"];
  for (const { name } of operands) lines.push(`  ${name}_at: u32, ${name}_stride: u32,`);
  for (const { name, type } of scalars) lines.push(`  ${name}: ${type},`);
  lines.push(
    "}",
    "@group(0) @binding(0) var<uniform> p: Parameters;",
    "@group(0) @binding(1) var<uniform> step: Step;",
  );
  memories.forEach((memory, i) => {
    const { type } = operands.find(({ place }) => place.memory === memory)!;
    const access = bindings[i]!.isWritten ? "read_write" : "read";
    lines.push(`@group(0) @binding(${i + 2}) var<storage, ${access}> m${i}: array<${type}>;`);
  });
  for (const { name, place, type, isWritten } of operands) {
    const memory = `m${memories.indexOf(place.memory)}`;
    const element = `${memory}[p.${name}_at + row * p.${name}_stride + i]`;
    lines.push(`fn ${name}(row: u32, i: u32) -> ${type} { return ${element}; }`);
    if (type === "vec4u") {
      const word = `${memory}[p.${name}_at + row * p.${name}_stride + (i >> 2u)][i & 3u]`;
      lines.push(`fn ${name}_word(row: u32, i: u32) -> u32 { return ${word}; }`);
    }
    if (isWritten) lines.push(`fn set_${name}(row: u32, i: u32, value: ${type}) { ${element} = value; }`);
  }
  const head = lines.join("\n");
  const texts = variants.map(({ extensions = [], text }) => {
    const enabled = extensions.map((extension) => `enable ${extension};\n`).join("");
    return `${enabled}${head}\n${STEP_TEXT}${text}`;
  });
  return { bindings, texts };
}

/** The words of the parameters, as the text declares them. */
export function parameterWords({ operands, scalars }: KernelCall): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(2 * operands.length + scalars.length);
  const floats = new Float32Array(words.buffer);
  operands.forEach(({ place, type }, i) => {
    const nWords = type === "vec4u" ? 4 : 1;
    words[2 * i] = place.at / nWords;
    words[2 * i + 1] = place.stride / nWords;
  });
  scalars.forEach(({ type, value }, i) => {
    (type === "f32" ? floats : words)[2 * operands.length + i] = value;
  });
  return words;
}
