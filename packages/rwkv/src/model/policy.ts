// Which type each matrix is stored in. Hides what is left at 16 bits whatever is asked, what a dtype means for a whole
// model, and how rules that change it are written.

import { ENCODED_DTYPES, type EncodedDType } from "../core/decode.ts";
import { DTYPES, isQuantized, type WeightDType } from "../core/dtype.ts";
import { UsageError } from "../core/errors.ts";
import { wildcardSource } from "../core/wildcard.ts";
import { deviceDType } from "./values.ts";
import type { CanonicalWeight } from "./weights/canonical.ts";

/** The type of a matrix as it is stored in memory or in a packed file. */
export type StoredDType = Exclude<WeightDType, "f64">;

/** What decides on the types of a model's matrices. */
export interface DTypePolicy {
  /**
   * For every matrix that no rule names; undefined keeps the type of the file. `q4` begins with the rules
   * `emb=q8,*.att.receptance=q8`, `nf4` and `sf4` with `emb=q8,head=q8`.
   */
  readonly dtype?: EncodedDType | undefined;
  /**
   * Rules `pattern=dtype`, joined by commas. A pattern is `emb`, `head`, or an official name with or without `.weight`, in
   * which `*` stands for any characters. The last rule that fits a matrix counts.
   */
  readonly policy?: string | undefined;
}

/**
 * Rules that a dtype brings with it. In 4 bits, rounding the embedding and the head costs as much as rounding all layers of
 * a small model, and the receptance most per byte; of the embedding a token reads one row, of the head all, which is why
 * the smaller errors of q4 are let into it. docs/quantization.md has the figures.
 */
const DEFAULT_RULES: Readonly<Partial<Record<EncodedDType, string>>> = {
  q4: "emb=q8,*.att.receptance=q8",
  nf4: "emb=q8,head=q8",
  sf4: "emb=q8,head=q8",
};

/** Chooses the type of each matrix. */
export type ChooseDType = (weight: CanonicalWeight) => StoredDType;

interface Rule {
  readonly text: string;
  readonly pattern: RegExp;
  readonly dtype: EncodedDType;
}

const SHORT_NAMES: ReadonlyMap<string, string> = new Map([
  ["emb", "emb.weight"],
  ["head", "head.weight"],
]);

/**
 * The types of the matrices of a model. Of block types, only whole blocks and full-rank matrices are made: low-rank
 * factors, and matrices whose rows are no multiple of a block, keep 16 bits (f32 becomes f16).
 * @param weights - of the model, by official name
 * @throws UsageError for a rule that cannot be read or fits no matrix
 */
export function chooseDTypes(
  weights: ReadonlyMap<string, CanonicalWeight>,
  { dtype, policy }: DTypePolicy,
): ChooseDType {
  const defaults = dtype === undefined ? undefined : DEFAULT_RULES[dtype];
  const rules = [defaults, policy].flatMap((text) => (text === undefined ? [] : parsePolicy(text)));
  const matrices = [...weights.values()].filter(isMatrix);
  for (const { text, pattern } of rules) {
    if (matrices.some(({ name }) => pattern.test(name))) continue;
    throw new UsageError(
      `The rule "${text}" fits no matrix of this model. Names are emb, head and, for example, ` +
        `${matrices
          .slice(1, 3)
          .map(({ name }) => name)
          .join(", ")}; * stands for any characters.`,
    );
  }
  return (weight) => {
    const rule = rules.findLast(({ pattern }) => pattern.test(weight.name));
    return fitting(weight, rule?.dtype ?? dtype);
  };
}

/** Whether a policy has a say in a weight: vectors and positions stay as they are. */
export function isMatrix({ rule }: CanonicalWeight): boolean {
  return rule.kind !== "vector" && rule.kind !== "position";
}

function fitting(weight: CanonicalWeight, asked: EncodedDType | undefined): StoredDType {
  const stored = deviceDType(weight.dtype);
  if (asked === undefined) return stored;
  const { kind } = weight.rule;
  const isFullRank = kind === "matrix" || kind === "embedding";
  const { blockElements } = DTYPES[asked];
  if (blockElements === 1 || (isFullRank && weight.shape.at(-1)! % blockElements === 0)) return asked;
  const isSmall = isQuantized(stored) || stored === "f16" || stored === "bf16";
  return isSmall ? stored : "f16";
}

function parsePolicy(policy: string): Rule[] {
  return policy.split(",").map((part) => {
    const text = part.trim();
    const [name = "", dtype = "", ...more] = text.split("=").map((side) => side.trim());
    if (name === "" || more.length > 0 || !isEncoded(dtype)) {
      throw new UsageError(
        `The policy has the rule "${text}"; expected pattern=dtype, such as head=q8 or *.ffn.value=q4, with one of ` +
          `${ENCODED_DTYPES.join(", ")}.`,
      );
    }
    return { text, pattern: patternOf(SHORT_NAMES.get(name) ?? name), dtype };
  });
}

function patternOf(name: string): RegExp {
  return new RegExp(`^${wildcardSource(name)}(\\.weight)?$`, "s");
}

function isEncoded(name: string): name is EncodedDType {
  return (ENCODED_DTYPES as readonly string[]).includes(name);
}
