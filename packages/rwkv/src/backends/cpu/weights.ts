// Where the weights of a program lie. A weight has one place, but a command must find all of its operands in one memory:
// vectors of commands that a cut has parted from them are copied, some kilobytes for each cut.

import type { WeightLayout } from "../../core/layout.ts";
import type { Tensor } from "../../ops/tensor.ts";
import type { Regions } from "./arena.ts";
import type { Place } from "./encode.ts";
import type { KernelWeight } from "./host.ts";

export class Weights {
  readonly #places: Map<Tensor, KernelWeight>;
  /** Copies by the number of their memory. */
  readonly #copies = new Map<number, Map<Tensor, Place>>();

  constructor(places = new Map<Tensor, KernelWeight>()) {
    this.#places = places;
  }

  /** The same places, for a program that makes its own copies. */
  withoutCopies(): Weights {
    return new Weights(this.#places);
  }

  add(weight: Tensor, place: KernelWeight): void {
    this.#places.set(weight, place);
  }

  /** The number of the memory that it was placed in. */
  memoryOf(weight: Tensor): number {
    return this.#places.get(weight)!.memory;
  }

  /** The order that its bytes are kept in. */
  layoutOf(weight: Tensor): WeightLayout {
    return this.#places.get(weight)!.layout;
  }

  /** Where it is found in the memory of that number, which it was placed in or brought to. */
  placeIn(memory: number, weight: Tensor): Place {
    const place = this.#places.get(weight)!;
    return place.memory === memory ? place : this.#copies.get(memory)!.get(weight)!;
  }

  /**
   * Copies those that lie elsewhere.
   * @param arena - that of the memory of that number
   * @throws DeviceError if it has no room
   */
  bringTo(memory: number, arena: Regions, tensors: Iterable<Tensor>): void {
    const copies = this.#copies.get(memory) ?? new Map<Tensor, Place>();
    this.#copies.set(memory, copies);
    for (const tensor of tensors) {
      const place = this.#places.get(tensor);
      if (place === undefined || place.memory === memory || copies.has(tensor)) continue;
      const { layout } = place;
      // A host that maps weights has one memory, and nothing is brought to another.
      const address = arena.allocate(place.bytes!(layout).byteLength, `a copy of weight "${tensor.name}"`);
      arena.bytes.set(place.bytes!(layout), address);
      copies.set(tensor, { address, layout });
    }
  }
}
