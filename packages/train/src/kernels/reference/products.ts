// Matrix products of the reference kernels. The contract is in kernels.ts; here only the loops that keep both factors
// in the order of their rows.

import type { GemmForm, Numbers } from "../kernels.ts";

export function gemm(
  c: Numbers,
  a: Numbers,
  b: Numbers,
  m: number,
  n: number,
  k: number,
  form: GemmForm,
  accumulate: boolean,
): void {
  if (form === "nt") {
    dotRows(c, a, b, m, n, k, accumulate);
    return;
  }
  if (!accumulate) c.fill(0, 0, m * n);
  // nn walks along a row of a, tn down a column of it
  const [rowStep, columnStep] = form === "nn" ? [k, 1] : [1, m];
  for (let i = 0; i < m; i++) {
    for (let l = 0; l < k; l++) {
      const factor = a[i * rowStep + l * columnStep]!;
      if (factor === 0) continue;
      for (let j = 0; j < n; j++) c[i * n + j] = c[i * n + j]! + factor * b[l * n + j]!;
    }
  }
}

function dotRows(
  c: Numbers,
  a: Numbers,
  b: Numbers,
  m: number,
  n: number,
  k: number,
  accumulate: boolean,
): void {
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = accumulate ? c[i * n + j]! : 0;
      for (let l = 0; l < k; l++) sum += a[i * k + l]! * b[j * k + l]!;
      c[i * n + j] = sum;
    }
  }
}
