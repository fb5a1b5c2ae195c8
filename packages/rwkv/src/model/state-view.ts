// The parts of a state block by layer and head, as views: what they hold is in rwkv-7's and its forerunners' papers and in
// the forward pass of each version (rwkv4.ts to rwkv7.ts).

import { countElements } from "../core/dtype.ts";
import { UsageError } from "../core/errors.ts";
import type { StateTensor } from "./state.ts";

/** A model, as far as states go. */
export interface StateOwner {
  readonly stateLayout: readonly StateTensor[];
}

/** The state of one layer; everything is a view, so that writing to it changes the state. */
export interface LayerStateView {
  /** `[C]`: the last input of the time mix. */
  readonly attShift: Float32Array;
  /** `[C]`: the last input of the channel mix. */
  readonly ffnShift: Float32Array;
  /** `[H, N, N]`, in RWKV-7 `[head, value, key]`, in RWKV-5 and 6 `[head, key, value]`; null in RWKV-4. */
  readonly wkv: Float32Array | null;
  /** `[N, N]` for each head, parts of `wkv`; none in RWKV-4. */
  readonly heads: readonly Float32Array[];
  /**
   * RWKV-4: for each channel the sum of weighted values and the sum of weights, both divided by e^pp; `[C]` each. Null in
   * other versions.
   */
  readonly exponential: {
    readonly aa: Float32Array;
    readonly bb: Float32Array;
    readonly pp: Float32Array;
  } | null;
}

/**
 * The layers of a state.
 * @param state - a whole state, as `session.readState` gives
 * @throws UsageError if it is not as long as the model's states are
 */
export function stateView(model: StateOwner, state: Float32Array): LayerStateView[] {
  checkLength(model, state);
  const parts = new Map<string, Float32Array>();
  const headElements = new Map<string, number>();
  for (const { name, offset, shape } of model.stateLayout) {
    parts.set(name, state.subarray(offset, offset + countElements(shape)));
    headElements.set(name, countElements(shape.slice(1)));
  }
  const layers: LayerStateView[] = [];
  for (let i = 0; parts.has(`blocks.${i}.attShift`); i++) {
    const part = (name: string): Float32Array => parts.get(`blocks.${i}.${name}`)!;
    const wkv = parts.get(`blocks.${i}.wkv`) ?? null;
    const perHead = headElements.get(`blocks.${i}.wkv`) ?? 0;
    layers.push({
      attShift: part("attShift"),
      ffnShift: part("ffnShift"),
      wkv,
      heads:
        wkv === null
          ? []
          : Array.from({ length: wkv.length / perHead }, (_, head) =>
              wkv.subarray(head * perHead, (head + 1) * perHead),
            ),
      exponential: wkv === null ? { aa: part("aa"), bb: part("bb"), pp: part("pp") } : null,
    });
  }
  return layers;
}

/** @throws UsageError if the state is not as long as the model's states are */
export function checkLength({ stateLayout }: StateOwner, state: Float32Array): void {
  const last = stateLayout.at(-1)!;
  const nElements = last.offset + countElements(last.shape);
  if (state.length === nElements) return;
  throw new UsageError(
    `The state has ${state.length} numbers, but one of this model has ${nElements}. Give what readState() returns.`,
  );
}
