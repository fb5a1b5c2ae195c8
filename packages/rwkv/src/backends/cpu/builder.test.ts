import { expect, test } from "vitest";
import { layoutByteLength } from "../../core/layout.ts";
import { createCpuBackend } from "./cpu.ts";

test("matrices in an order of other kernels are read into the same room, one after the other", async () => {
  const builder = (await createCpuBackend({ threads: 1 })).createBuilder({ maxRows: 1 });
  const buffers = new Set<ArrayBufferLike>();
  const upload = (name: string, nOut: number): Promise<unknown> => {
    const shape = [nOut, 64];
    const byteLength = layoutByteLength("columns", "q8", shape);
    return builder.weight({
      name,
      shape,
      dtype: "q8",
      layout: "columns",
      byteLength,
      read(target) {
        expect(target.byteLength).toBe(byteLength);
        buffers.add(target.buffer);
        return Promise.resolve();
      },
    });
  };
  await Promise.all([upload("a", 128), upload("b", 64), upload("c", 128)]);
  expect(buffers.size).toBe(1);
  await upload("d", 192);
  expect(buffers.size).toBe(2);
  builder.dispose();
});
