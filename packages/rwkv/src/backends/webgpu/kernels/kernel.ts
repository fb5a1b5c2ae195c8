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
export type GridRows = "token" | "logit" | "run" | "shortlist";

/** A text, and the steps that it is for. */
export interface KernelVariant {
  /** Used for steps of up to as many rows; Infinity for the last one. */
  readonly maxRows: number;
  /** Rows that one workgroup works on. */
  readonly rowsPerGroup: number;
  /** WGSL extensions that the text needs. */
  readonly extensions?: readonly string[];
  /** Ends with `fn main`; the workgroup's id is (part of the row, row or run). */
  readonly text: string;
}

/** What a kernel computes from some operands; several of them side by side are one dispatch. */
export interface KernelPart {
  readonly operands: readonly KernelOperand[];
  readonly scalars: readonly KernelScalar[];
  /** Workgroups in the first dimension, for each variant. */
  readonly nGroups: readonly number[];
}

/** Bytes that a step of one row reads and writes at least, everything once. */
export interface Traffic {
  readonly matrices: number;
  /** Those of them that meet inputs that may be zero, and are not read then. */
  readonly sparse: number;
  /** Vectors, rows and states. */
  readonly others: number;
}

/** One dispatch. */
export interface KernelCall {
  /** For messages and lists: what it computes and where that goes. */
  readonly label: string;
  /**
   * At least one, all with operands of the same names, types and memories. If `isGrouped`, there may be up to MAX_PARTS, and
   * the text has SELECT_PART.
   */
  readonly parts: readonly KernelPart[];
  readonly isGrouped: boolean;
  /** The steps it runs in: all, those whose runs have one row each, as in decode, or the others. */
  readonly steps: "all" | "single rows" | "longer runs";
  readonly rows: GridRows;
  /** From few rows to many. */
  readonly variants: readonly KernelVariant[];
  /** Multiply-adds per row, to cut long steps; 0 where they do not count. */
  readonly work: number;
  readonly traffic: Traffic;
}

/** Most parts of one dispatch: as many have room in its parameters, whether or not they are there. */
export const MAX_PARTS = 8;

/** Most variants of a kernel: the workgroups of a part in each of them are one vector. */
export const MAX_VARIANTS = 4;

/**
 * Statements that a kernel whose calls are grouped begins `main` with. They find the part that the workgroup, whose id has to
 * be called `workgroup`, belongs to. From there on `group` is its id within that part and `p` has the numbers of the part,
 * the same in all threads, so that loops around barriers may depend on them; other functions see the same in their `p`.
 */
export const SELECT_PART = `
  let selected = part_of(workgroup.x);
  p = parts[selected.x];
  let p = parts[selected.x];
  let group = vec3u(selected.y, workgroup.yz);`;

/** (part, workgroup within it). */
const PART_TEXT = `
@group(0) @binding(0) var<uniform> parts: array<Parameters, ${MAX_PARTS}>;
var<private> p: Parameters;
fn part_of(workgroup: u32) -> vec2u {
  var part = 0u;
  var group = workgroup;
  while (part < ${MAX_PARTS - 1}u && group >= parts[part].groups[VARIANT]) {
    group -= parts[part].groups[VARIANT];
    part += 1u;
  }
  return vec2u(part, group);
}`;

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

export function assemble({ parts, isGrouped, variants }: KernelCall): AssembledKernel {
  const { operands, scalars } = parts[0]!;
  const memories = [...new Set(operands.map(({ place }) => place.memory))];
  const bindings = memories.map((memory): KernelBinding => {
    const here = operands.filter(({ place }) => place.memory === memory);
    return { place: here[0]!.place, isWritten: here.some(({ isWritten }) => isWritten) };
  });
  const lines: string[] = ["struct Parameters {"];
  if (isGrouped) lines.push("  groups: vec4u,");
  for (const { name } of operands) lines.push(`  ${name}_at: u32, ${name}_stride: u32,`);
  for (const { name, type } of scalars) lines.push(`  ${name}: ${type},`);
  lines.push("}", "@group(0) @binding(1) var<uniform> step: Step;");
  lines.push(isGrouped ? PART_TEXT : "@group(0) @binding(0) var<uniform> p: Parameters;");
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
  const texts = variants.map(({ extensions = [], text }, variant) => {
    const enabled = extensions.map((extension) => `enable ${extension};\n`).join("");
    const chosen = isGrouped ? `const VARIANT = ${variant}u;\n` : "";
    return `${enabled}${chosen}${head}\n${STEP_TEXT}${text}`;
  });
  return { bindings, texts };
}

/** The words of the parameters, as the text declares them. */
export function parameterWords({ parts, isGrouped }: KernelCall): Uint32Array<ArrayBuffer> {
  const { operands: first, scalars: numbers } = parts[0]!;
  const headWords = isGrouped ? MAX_VARIANTS : 0;
  // The elements of an array in a uniform buffer are whole vectors.
  const partWords = Math.ceil((headWords + 2 * first.length + numbers.length) / 4) * 4;
  const words = new Uint32Array(partWords * (isGrouped ? MAX_PARTS : 1));
  const floats = new Float32Array(words.buffer);
  parts.forEach(({ operands, scalars, nGroups }, part) => {
    let at = part * partWords;
    if (isGrouped) words.set(nGroups, at);
    at += headWords;
    for (const { place, type } of operands) {
      const nWords = type === "vec4u" ? 4 : 1;
      words[at++] = place.at / nWords;
      words[at++] = place.stride / nWords;
    }
    for (const { type, value } of scalars) (type === "f32" ? floats : words)[at++] = value;
  });
  return words;
}
