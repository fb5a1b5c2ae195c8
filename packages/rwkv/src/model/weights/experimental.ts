// Tensors that only experiments, adapters or converted copies have. A model with one of them is refused by name:
// running it without them would give plausible nonsense.

interface Experiment {
  readonly pattern: RegExp;
  readonly what: string;
}

const EXPERIMENTS: readonly Experiment[] = [
  { pattern: /(^|\.)ffnPre\./, what: "a channel mix in place of the first time mix (ffnPre)" },
  { pattern: /^(head_q\.|head_k\.|copy_mask$)/, what: "the copy head (head_q, head_k)" },
  { pattern: /(^|\.)tiny_/, what: "the small extra attention (tiny_*)" },
  { pattern: /(^|\.)pos_emb(_[xy])?$/, what: "position embeddings outside RWKV-4 (pos_emb)" },
  { pattern: /\.att\.(qq|kk|vv|oo)\./, what: "RWKV-4 with an extra softmax attention (att.qq)" },
  { pattern: /\.att\.time_mix_(qq|kk|vv)$/, what: "RWKV-4 with an extra softmax attention (time_mix_qq)" },
  { pattern: /\.att\.gate_w[12]$/, what: "RWKV-6a, whose gate is low-rank (att.gate_w1)" },
  { pattern: /\.att\.time_maa_rkvw_w[12]$/, what: "RWKV-6b or 6c, without a gate (att.time_maa_rkvw_w1)" },
  { pattern: /\.ffn\.(aa|bb)\.weight$/, what: "a gated channel mix (ffn.aa, ffn.bb)" },
  { pattern: /\.rosa\./, what: "RWKV-8 ROSA (rosa.*)" },
  { pattern: /\.(ffn\.enn|qkv\.enn?k|qkv\.emm)\./, what: "RWKV-8 rc00 (ffn.enn)" },
  { pattern: /(^|\.)qkv\./, what: "RWKV-7b, DeepEmbedAttention (qkv.*)" },
  { pattern: /\.ffn\.(s_emb(_x)?\.weight|s[012])$/, what: "RWKV-7a, DeepEmbed (ffn.s_emb)" },
  { pattern: /^init_state\./, what: "a learned initial state of RWKV-block (init_state)" },
  {
    pattern: /(^|\.)(lora_[ab]|lora\.[01]|lora_embedding_[ab]|disha|bone)(\.|$)/i,
    what: "an adapter that is not merged into the weights (lora_A)",
  },
];

/** What the tensor belongs to, or null if its name says nothing. */
export function describeExperiment(name: string): string | null {
  return EXPERIMENTS.find(({ pattern }) => pattern.test(name))?.what ?? null;
}

/** Experiments that look like a plain version otherwise, by names that must be refused before its tensors are checked. */
export function findExperiment(names: Iterable<string>): { name: string; what: string } | null {
  // v8 has the tensors of v7b and v7a too: the entry that stands first in the table names the model.
  let found: { name: string; what: string; rank: number } | null = null;
  for (const name of names) {
    const rank = EXPERIMENTS.findIndex(({ pattern }) => pattern.test(name));
    if (rank >= 0 && (found === null || rank < found.rank))
      found = { name, what: EXPERIMENTS[rank]!.what, rank };
  }
  return found;
}
