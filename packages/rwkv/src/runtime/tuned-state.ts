// Writes a tuned initial state as a file of its own, for this and other programs to start sessions from.

import type { ByteSink } from "../core/byte-sink.ts";
import { writePth } from "../formats/pth/write.ts";
import { writeSafetensors } from "../formats/safetensors/safetensors.ts";
import type { ModelConfig } from "../model/config.ts";
import { tunedStateTensors } from "../model/tuned-state.ts";
import { STATE_ORIENTATION_KEY } from "../model/weights/orientation.ts";

/** How a tuned state is written. */
export interface WriteTunedStateOptions {
  /**
   * `pth` holds `[head, value, key]` as trainers write; `safetensors` `[head, key, value]` as web-rwkv reads, and says so
   * in its metadata. Of RWKV-4 both hold `[3, A]`: aa, bb and pp.
   */
  readonly format: "pth" | "safetensors";
  /** Default `f32`. Trainers in PyTorch write `bf16`, web-rwkv reads `f16`. */
  readonly dtype?: "f32" | "f16" | "bf16" | undefined;
}

/**
 * Writes `blocks.<i>.att.time_state` for every layer; `model.restore` reads it.
 * @param config - of the model that the state was tuned for
 * @param state - a whole state block, laid out as `model.stateLayout` says, token shifts at zero; not kept
 * @throws UsageError if the state has another length, holds token shifts, or a value does not fit the type; in all these cases nothing
 * is written
 */
export async function writeTunedState(
  sink: ByteSink,
  config: ModelConfig,
  state: Float32Array,
  { format, dtype = "f32" }: WriteTunedStateOptions,
): Promise<void> {
  const orientation = format === "pth" ? "value-key" : "key-value";
  const tensors = tunedStateTensors(config, state, dtype, orientation);
  if (format === "pth") await writePth(sink, tensors);
  else await writeSafetensors(sink, tensors, new Map([[STATE_ORIENTATION_KEY, orientation]]));
}
