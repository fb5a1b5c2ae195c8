// Products that run at the same time as dispatches: those whose matrices have one type and form and lie in one buffer are the
// parts of one dispatch. What a product lacks of bias, factor and base is told by a number, so that all parts have the same text.

import { isQuantized } from "../../core/dtype.ts";
import type { Activations } from "../../ops/backend.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { accessOf } from "./access.ts";
import type { Product } from "./commands.ts";
import { activationNumber } from "./kernels/activations.ts";
import { MAX_PARTS, type KernelCall, type KernelOperand, type KernelPart } from "./kernels/kernel.ts";
import { productGroups, productVariants } from "./kernels/matmul.ts";
import { HAS } from "./kernels/product-end.ts";
import type { KernelFeatures } from "./kernels/product.ts";
import type { Place } from "./memory.ts";
import { bytesOfRows, f32, operandOf, rowsOf, u32, type Places } from "./operands.ts";
import type { Matrix, MatrixPart } from "./weights.ts";

/** What kernels are chosen by, beside the command. */
export interface KernelChoice {
  readonly features: KernelFeatures;
  /** Of products with quantised weights. */
  readonly activations: Activations;
}

/** Consecutive outputs of a product. */
interface Piece {
  readonly product: Product;
  readonly matrix: Matrix;
  readonly rows: MatrixPart;
}

export function productCalls(
  products: readonly Product[],
  places: Places,
  choice: KernelChoice,
): KernelCall[] {
  const pieces = products.flatMap((product) => {
    const matrix = places.matrixOf(product.w);
    return matrix.parts.map((rows): Piece => ({ product, matrix, rows }));
  });
  const dispatches: Piece[][] = [];
  for (const piece of pieces) {
    const open = dispatches.find((other) => other.length < MAX_PARTS && areAlike(other[0]!, piece, places));
    if (open === undefined) dispatches.push([piece]);
    else open.push(piece);
  }
  return dispatches.map((dispatch) => productCall(dispatch, places, choice));
}

/** Whether one text and one bind group serve both. */
function areAlike(a: Piece, b: Piece, { placeOf }: Places): boolean {
  const memoriesOf = ({ product: { out, x, factor, base }, rows }: Piece): unknown[] => [
    rows.place.memory,
    ...[out, x, factor ?? out, base ?? out].map((tensor) => placeOf(tensor).memory),
  ];
  const others = memoriesOf(b);
  const areOfOneForm = a.matrix.dtype === b.matrix.dtype && a.matrix.isSparse === b.matrix.isSparse;
  return areOfOneForm && memoriesOf(a).every((memory, i) => memory === others[i]);
}

function productCall(
  pieces: readonly Piece[],
  places: Places,
  { features, activations }: KernelChoice,
): KernelCall {
  const { product: first, matrix } = pieces[0]!;
  const { dtype, isSparse } = matrix;
  const rows = rowsOf(first.out);
  const isRounded = activations === "int8" && isQuantized(dtype);
  // What stands for the bias of a part that has none, and is not read.
  const anyBias = pieces.map(({ product: { bias } }) => bias).find((bias) => bias !== null) ?? null;
  const products = [...new Set(pieces.map(({ product }) => product))];
  const namesOf = (tensors: readonly Tensor[]): string => tensors.map(({ name }) => name).join(", ");
  const matrixBytes = sum(pieces.map(({ rows: { byteLength } }) => byteLength));
  return {
    label: `product ${namesOf(products.map(({ w }) => w))} -> ${namesOf(products.map(({ out }) => out))}`,
    parts: pieces.map((piece) => productPart(piece, anyBias, places)),
    isGrouped: true,
    steps: "all",
    rows,
    variants: productVariants({ dtype, rows, hasBias: anyBias !== null, isRounded, isSparse }, features),
    work: sum(pieces.map(({ product: { x }, rows: { nRows } }) => rowElements(x) * nRows)),
    traffic: {
      matrices: matrixBytes,
      sparse: isSparse ? matrixBytes : 0,
      others: bytesOfRows(accessOf({ op: "products", products })),
    },
  };
}

function productPart({ product, matrix, rows }: Piece, anyBias: Tensor | null, places: Places): KernelPart {
  const { isSparse } = matrix;
  const { out, x, w, bias, factor, base, activation, scale } = product;
  const { firstRow, nRows, place } = rows;
  const from = (operand: KernelOperand): KernelOperand => ({
    ...operand,
    place: advance(operand.place, firstRow),
  });
  const read = (name: string, tensor: Tensor): KernelOperand => operandOf(name, tensor, places, false);
  const has =
    (bias === null ? 0 : HAS.bias) | (factor === null ? 0 : HAS.factor) | (base === null ? 0 : HAS.base);
  return {
    operands: [
      from(operandOf("out", out, places, true)),
      read("x", x),
      { name: "w", place, isWritten: false, type: "vec4u" },
      from(read("factor", factor ?? out)),
      from(read("base", base ?? out)),
      ...(anyBias === null ? [] : [from(read("bias", bias ?? anyBias))]),
      ...(isSparse ? [countsOperand(places.countsOf(w))] : []),
    ],
    scalars: [
      u32("n_in", rowElements(x)),
      u32("n_out", nRows),
      u32("has", has),
      u32("activation", activationNumber(activation)),
      f32("scale", scale),
      ...(isSparse ? [u32("counts_inputs", firstRow === 0 ? 1 : 0)] : []),
    ],
    nGroups: productGroups(nRows, isSparse),
  };
}

const countsOperand = (place: Place): KernelOperand => ({
  name: "counts",
  place,
  isWritten: true,
  type: "u32",
});

const advance = (place: Place, nElements: number): Place => ({ ...place, at: place.at + nElements });

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
