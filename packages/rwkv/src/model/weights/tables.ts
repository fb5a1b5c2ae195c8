// The weights of each version under their official names, in the structure its forward pass uses. This is the only
// place that knows which tensor feeds which step. Names and shapes: checkpoints of BlinkDL/RWKV-LM.

import type { ModelConfig } from "../config.ts";
import type { EndWeights } from "../ends.ts";
import type { ChannelMix, Rwkv4Weights } from "../rwkv4.ts";
import type { Gate5, Rwkv5Weights } from "../rwkv5.ts";
import type { Rwkv6Weights } from "../rwkv6.ts";
import type { Rwkv7Weights } from "../rwkv7.ts";
import {
  collectingVisitor,
  matrixRule,
  norm,
  type Lora,
  type WeightRule,
  type WeightVisitor,
} from "./visitor.ts";

/** The five pieces of v6's fused shift maps, in the order of the official file. */
export const SHIFT_MAPS = ["w", "k", "v", "r", "g"] as const;

/** Every weight of a model: first what the host keeps for look-ups, then what goes to the device. */
export function weightRules(c: ModelConfig): WeightRule[] {
  const rules = [matrixRule("emb.weight", "embedding", c.nVocab, c.nEmbd)];
  if (c.positions > 0) {
    const side = Math.round(Math.sqrt(c.positions + 1));
    const [x, y] = ["blocks.0.pos_emb_x", "blocks.0.pos_emb_y"].map((name) =>
      matrixRule(name, "position", side, c.nEmbd),
    );
    rules.push({ ...x!, officialShape: [1, side, c.nEmbd] }, { ...y!, officialShape: [side, 1, c.nEmbd] });
  }
  const visit = collectingVisitor(rules);
  if (c.version === "7") weights7(visit, c);
  else if (c.version === "6") weights6(visit, c);
  else if (c.version === "4") weights4(visit, c);
  else weights5(visit, c);
  return rules;
}

function layersOf<Layer>(c: ModelConfig, layer: (block: string, i: number) => Layer): Layer[] {
  return Array.from({ length: c.nLayer }, (_, i) => layer(`blocks.${i}`, i));
}

function ends<T>(visit: WeightVisitor<T>, c: ModelConfig): EndWeights<T> {
  return {
    ln0: c.hasLn0 ? norm(visit, "blocks.0.ln0", c.nEmbd) : null,
    lnOut: norm(visit, "ln_out", c.nEmbd),
    head: visit.matrix("head.weight", c.nVocab, c.nEmbd),
  };
}

export function weights4<T>(visit: WeightVisitor<T>, c: ModelConfig): Rwkv4Weights<T> {
  const { nEmbd, nAtt } = c;
  return {
    layers: layersOf(c, (block) => ({
      ln1: norm(visit, `${block}.ln1`, nEmbd),
      ln2: norm(visit, `${block}.ln2`, nEmbd),
      att: {
        decay: visit.vector(`${block}.att.time_decay`, [nAtt], "logDecay4"),
        bonus: visit.vector(`${block}.att.time_first`, [nAtt]),
        mixK: visit.vector(`${block}.att.time_mix_k`, [1, 1, nEmbd], "currentShare"),
        mixV: visit.vector(`${block}.att.time_mix_v`, [1, 1, nEmbd], "currentShare"),
        mixR: visit.vector(`${block}.att.time_mix_r`, [1, 1, nEmbd], "currentShare"),
        key: visit.matrix(`${block}.att.key.weight`, nAtt, nEmbd),
        value: visit.matrix(`${block}.att.value.weight`, nAtt, nEmbd),
        receptance: visit.matrix(`${block}.att.receptance.weight`, nAtt, nEmbd),
        output: visit.matrix(`${block}.att.output.weight`, nEmbd, nAtt),
      },
      ffn: channelMix(visit, c, block),
    })),
    ends: ends(visit, c),
  };
}

/** Channel mix of versions 4 and 5; version 6 stores the opposite share under another name. */
function channelMix<T>(visit: WeightVisitor<T>, c: ModelConfig, block: string): ChannelMix<T> {
  const { nEmbd, nFfn } = c;
  const mix = (name: "k" | "r"): T =>
    c.version === "6"
      ? visit.vector(`${block}.ffn.time_maa_${name}`, [1, 1, nEmbd])
      : visit.vector(`${block}.ffn.time_mix_${name}`, [1, 1, nEmbd], "currentShare");
  return {
    mixK: mix("k"),
    mixR: mix("r"),
    key: visit.matrix(`${block}.ffn.key.weight`, nFfn, nEmbd),
    receptance: visit.matrix(`${block}.ffn.receptance.weight`, nEmbd, nEmbd),
    value: visit.sparseMatrix(`${block}.ffn.value.weight`, nEmbd, nFfn),
  };
}

export function weights5<T>(visit: WeightVisitor<T>, c: ModelConfig): Rwkv5Weights<T> {
  const { nEmbd, nAtt } = c;
  const heads = c.heads!;
  const headSize = c.headSize!;
  const isPerChannel = c.version === "5.2";
  const shape = isPerChannel ? [heads, headSize] : [heads];
  const repeat = isPerChannel ? 1 : headSize;
  const gate = (block: string): Gate5<T> | null =>
    c.version === "5.0"
      ? null
      : {
          mix: visit.vector(`${block}.att.time_mix_g`, [1, 1, nEmbd], "currentShare"),
          weight: visit.matrix(`${block}.att.gate.weight`, nAtt, nEmbd),
        };
  return {
    layers: layersOf(c, (block) => ({
      ln1: norm(visit, `${block}.ln1`, nEmbd),
      ln2: norm(visit, `${block}.ln2`, nEmbd),
      att: {
        mixK: visit.vector(`${block}.att.time_mix_k`, [1, 1, nEmbd], "currentShare"),
        mixV: visit.vector(`${block}.att.time_mix_v`, [1, 1, nEmbd], "currentShare"),
        mixR: visit.vector(`${block}.att.time_mix_r`, [1, 1, nEmbd], "currentShare"),
        decay: visit.vector(`${block}.att.time_decay`, shape, "decay5", repeat),
        bonus: visit.vector(`${block}.att.time_faaaa`, shape, "bonus5", repeat),
        receptance: visit.matrix(`${block}.att.receptance.weight`, nAtt, nEmbd),
        key: visit.matrix(`${block}.att.key.weight`, nAtt, nEmbd),
        value: visit.matrix(`${block}.att.value.weight`, nAtt, nEmbd),
        output: visit.matrix(`${block}.att.output.weight`, nEmbd, nAtt),
        gate: gate(block),
        lnX: norm(visit, `${block}.att.ln_x`, nAtt),
      },
      ffn: channelMix(visit, c, block),
    })),
    ends: ends(visit, c),
  };
}

export function weights6<T>(visit: WeightVisitor<T>, c: ModelConfig): Rwkv6Weights<T> {
  const { nEmbd, nAtt, ranks } = c;
  const shiftMap = (att: string, q: (typeof SHIFT_MAPS)[number]): Lora<T> => ({
    bias: visit.vector(`${att}.time_maa_${q}`, [1, 1, nEmbd]),
    down: visit.loraDown(`${att}.time_maa_w1.${q}`, ranks.tokenShift, nEmbd),
    up: visit.loraUp(`${att}.time_maa_w2.${q}`, nEmbd, ranks.tokenShift),
  });
  return {
    layers: layersOf(c, (block) => ({
      ln1: norm(visit, `${block}.ln1`, nEmbd),
      ln2: norm(visit, `${block}.ln2`, nEmbd),
      att: {
        mixX: visit.vector(`${block}.att.time_maa_x`, [1, 1, nEmbd]),
        shiftW: shiftMap(`${block}.att`, "w"),
        shiftK: shiftMap(`${block}.att`, "k"),
        shiftV: shiftMap(`${block}.att`, "v"),
        shiftR: shiftMap(`${block}.att`, "r"),
        shiftG: shiftMap(`${block}.att`, "g"),
        decay: {
          bias: visit.vector(`${block}.att.time_decay`, [1, 1, nAtt]),
          down: visit.loraDown(`${block}.att.time_decay_w1`, ranks.decay, nEmbd),
          up: visit.loraUp(`${block}.att.time_decay_w2`, nAtt, ranks.decay),
        },
        bonus: visit.vector(`${block}.att.time_faaaa`, [c.heads!, c.headSize!]),
        receptance: visit.matrix(`${block}.att.receptance.weight`, nAtt, nEmbd),
        key: visit.matrix(`${block}.att.key.weight`, nAtt, nEmbd),
        value: visit.matrix(`${block}.att.value.weight`, nAtt, nEmbd),
        output: visit.matrix(`${block}.att.output.weight`, nEmbd, nAtt),
        gate: visit.matrix(`${block}.att.gate.weight`, nAtt, nEmbd),
        lnX: norm(visit, `${block}.att.ln_x`, nAtt),
      },
      ffn: channelMix(visit, c, block),
    })),
    ends: ends(visit, c),
  };
}

export function weights7<T>(visit: WeightVisitor<T>, c: ModelConfig): Rwkv7Weights<T> {
  const { nEmbd, nAtt, nFfn, ranks } = c;
  const lora = (att: string, letter: string, rank: number, hasBias: boolean): Lora<T> => ({
    bias: hasBias ? visit.vector(`${att}.${letter}0`, [1, 1, nAtt]) : null,
    down: visit.loraDown(`${att}.${letter}1`, rank, nEmbd),
    up: visit.loraUp(`${att}.${letter}2`, nAtt, rank),
  });
  return {
    layers: layersOf(c, (block, i) => ({
      ln1: norm(visit, `${block}.ln1`, nEmbd),
      ln2: norm(visit, `${block}.ln2`, nEmbd),
      att: {
        mix: ["r", "w", "k", "v", "a", "g"].map((q) => visit.vector(`${block}.att.x_${q}`, [1, 1, nEmbd])),
        decay: lora(`${block}.att`, "w", ranks.decay, true),
        rate: lora(`${block}.att`, "a", ranks.rate, true),
        valueGate: i === 0 ? null : lora(`${block}.att`, "v", ranks.value, true),
        gate: lora(`${block}.att`, "g", ranks.gate, false),
        kK: visit.vector(`${block}.att.k_k`, [1, 1, nAtt]),
        kA: visit.vector(`${block}.att.k_a`, [1, 1, nAtt]),
        rK: visit.vector(`${block}.att.r_k`, [c.heads!, c.headSize!]),
        receptance: visit.matrix(`${block}.att.receptance.weight`, nAtt, nEmbd),
        key: visit.matrix(`${block}.att.key.weight`, nAtt, nEmbd),
        value: visit.matrix(`${block}.att.value.weight`, nAtt, nEmbd),
        output: visit.matrix(`${block}.att.output.weight`, nEmbd, nAtt),
        lnX: norm(visit, `${block}.att.ln_x`, nAtt),
      },
      ffn: {
        mix: visit.vector(`${block}.ffn.x_k`, [1, 1, nEmbd]),
        key: visit.matrix(`${block}.ffn.key.weight`, nFfn, nEmbd),
        value: visit.sparseMatrix(`${block}.ffn.value.weight`, nEmbd, nFfn),
      },
    })),
    ends: ends(visit, c),
  };
}
