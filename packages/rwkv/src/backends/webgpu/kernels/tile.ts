// Products for many rows. A workgroup computes a tile of 8 R rows and 64 outputs; a thread has R rows and 4 outputs of it, its
// sums in registers. Weights of one block at a time are unpacked once for all rows of the tile, beside the inputs of these
// rows, into the workgroup's memory: at most the 16 KB that every device has. Workgroups are (64 outputs, 8 R rows).
//
// The blocks of a lane follow one another (kernels/product.ts), so that one sum at a time is enough for 16 lanes.

import { LANES, MAIN_BEGIN, productText, type KernelFeatures, type ProductKind } from "./product.ts";
import { repeat } from "./text.ts";

export const TILE_OUTPUTS = 64;
/** Threads side by side, each with every 16th output of the tile. */
const COLUMNS = 16;
const ROW_GROUPS = 8;
const THREADS = COLUMNS * ROW_GROUPS;
const OUTPUTS_PER_THREAD = TILE_OUTPUTS / COLUMNS;

/** Rows of a tile whose threads have so many. */
export function tileRows(rowsPerThread: number): number {
  return ROW_GROUPS * rowsPerThread;
}

export function tileText(kind: ProductKind, features: KernelFeatures, rowsPerThread: number): string {
  const nRows = tileRows(rowsPerThread);
  const parts = kind.isRounded
    ? roundedParts(nRows, rowsPerThread)
    : floatParts(nRows, rowsPerThread, kind.isSparse ? FILL_FROM_PANEL : FILL_FROM_ROWS);
  const forRows = (text: (r: number) => string, indent: string): string =>
    repeat(rowsPerThread, text, `\n${indent}`);
  return `${productText(kind, features)}
${parts.memory}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) thread: u32) {${MAIN_BEGIN}
  let column = thread % ${COLUMNS}u;
  let row = thread / ${COLUMNS}u * ${rowsPerThread}u;
  let first_output = group.x * ${TILE_OUTPUTS}u;
  let first_row = group.y * ${nRows}u;
  let last_output = p.n_out - 1u;
  // Of each row its 4 outputs: of all lanes so far, of four lanes, of one.
  ${forRows((r) => `var total${r} = vec4f(); var quad${r} = vec4f(); var sum${r} = vec4f();`, "  ")}
  for (var lane = 0u; lane < ${LANES}u; lane++) {
    ${forRows((r) => `sum${r} = vec4f();`, "    ")}
    for (var b = lane; b < n_blocks; b += ${LANES}u) {
      workgroupBarrier();
      ${parts.fill}
      workgroupBarrier();
      ${parts.multiply}
    }
    if (lane % 4u == 0u) {
      ${forRows((r) => `quad${r} = sum${r};`, "      ")}
    } else {
      ${forRows((r) => `quad${r} += sum${r};`, "      ")}
    }
    if (lane == 3u) {
      ${forRows((r) => `total${r} = quad${r};`, "      ")}
    } else if (lane % 4u == 3u) {
      ${forRows((r) => `total${r} += quad${r};`, "      ")}
    }
  }
  for (var i = 0u; i < ${OUTPUTS_PER_THREAD}u; i++) {
    let o = first_output + column + ${COLUMNS}u * i;
    ${forRows((r) => `store(first_row + row + ${r}u, o, total${r}[i]);`, "    ")}
  }
}`;
}

interface TileParts {
  readonly memory: string;
  /** Brings block `b` of the weights and inputs of the tile into it. */
  readonly fill: string;
  /** Adds its products. */
  readonly multiply: string;
}

/** Vectors of four inputs, those of an output exchanged so that the threads of a subgroup meet different banks. */
const FILL_FROM_ROWS = `for (var i = thread; i < ${2 * TILE_OUTPUTS}u; i += ${THREADS}u) {
        let o = i / 2u;
        let unit = i % 2u;
        let w = weights(min(first_output + o, last_output), 2u * b + unit);
        ${repeat(4, (c) => `weight_tile[8u * o + ((4u * unit + ${c}u) ^ (o & 7u))] = w[${c}];`, "\n        ")}
      }`;

/** The same; a thread takes four inputs of eight outputs. A tile has the outputs of a panel. */
const FILL_FROM_PANEL = `if (thread < ${TILE_OUTPUTS}u) {
        let g = thread % ${TILE_OUTPUTS / 8}u;
        let v = thread / ${TILE_OUTPUTS / 8}u;
        let first_input = 32u * b + 4u * v;
        ${repeat(4, (c) => `let w${c} = column_of(first_output / 8u + g, min(first_input + ${c}u, p.n_in - 1u));`, "\n        ")}
        ${repeat(8, (o) => `weight_tile[8u * (8u * g + ${o}u) + (v ^ ${o}u)] = ${fourOf(o)};`, "\n        ")}
      }`;

/** Of four columns the weights of output o. */
function fourOf(o: number): string {
  return `vec4f(${repeat(4, (c) => `w${c}[${o >> 2}][${o & 3}]`, ", ")})`;
}

function floatParts(nRows: number, rowsPerThread: number, fillWeights: string): TileParts {
  const addFour = (r: number): string => {
    const sums = repeat(
      OUTPUTS_PER_THREAD,
      (i) => `add_four(sum${r}[${i}], w${i}, input${r})`,
      ",\n          ",
    );
    return `let input${r} = input_tile[8u * (row + ${r}u) + v];
        sum${r} = vec4f(
          ${sums});`;
  };
  return {
    memory: `var<workgroup> weight_tile: array<vec4f, ${8 * TILE_OUTPUTS}>;
var<workgroup> input_tile: array<vec4f, ${8 * nRows}>;`,
    fill: `${fillWeights}
      for (var i = thread; i < ${8 * nRows}u; i += ${THREADS}u) {
        input_tile[i] = inputs(first_row + i / 8u, 8u * b + i % 8u);
      }`,
    multiply: `for (var v = 0u; v < 8u; v++) {
        let at = 8u * column + (v ^ (column & 7u));
        ${repeat(OUTPUTS_PER_THREAD, (i) => `let w${i} = weight_tile[at + ${8 * COLUMNS * i}u];`, "\n        ")}
        ${repeat(rowsPerThread, addFour, "\n        ")}
      }`,
  };
}

function roundedParts(nRows: number, rowsPerThread: number): TileParts {
  const addBlock = (r: number): string => {
    const sums = repeat(
      OUTPUTS_PER_THREAD,
      (i) => `add_block(sum${r}[${i}], w${i}, input${r})`,
      ",\n        ",
    );
    return `let input${r} = input_tile[row + ${r}u];
      sum${r} = vec4f(
        ${sums});`;
  };
  return {
    memory: `var<workgroup> weight_tile: array<PackedBlock, ${TILE_OUTPUTS}>;
var<workgroup> input_tile: array<Rounded, ${nRows}>;`,
    fill: `for (var i = thread; i < ${TILE_OUTPUTS}u; i += ${THREADS}u) {
        weight_tile[i] = packed_block(min(first_output + i, last_output), 2u * b);
      }
      if (thread >= ${THREADS - nRows}u) {
        let r = thread - ${THREADS - nRows}u;
        input_tile[r] = rounded(first_row + r, b);
      }`,
    multiply: `${repeat(OUTPUTS_PER_THREAD, (i) => `let w${i} = weight_tile[column + ${COLUMNS * i}u];`, "\n      ")}
      ${repeat(rowsPerThread, addBlock, "\n      ")}`,
  };
}
