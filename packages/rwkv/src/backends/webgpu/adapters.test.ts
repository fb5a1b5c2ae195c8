import { expect, test } from "vitest";
import { DeviceError } from "../../core/errors.ts";
import { findAdapter, findAdapters } from "./adapters.ts";

/** WebGPU with a fast and a frugal adapter, and none that is software. */
function twoAdapters(): GPU {
  const adapterOf = (description: string): GPUAdapter =>
    ({ info: { description, isFallbackAdapter: false } }) as GPUAdapter;
  const requestAdapter = ({ powerPreference, forceFallbackAdapter }: GPURequestAdapterOptions = {}) => {
    if (forceFallbackAdapter === true) return Promise.resolve(null);
    return Promise.resolve(adapterOf(powerPreference === "low-power" ? "Frugal  630" : "Fast 4090"));
  };
  return { requestAdapter } as GPU;
}

test("each adapter is listed once, the fast one first", async () => {
  const found = await findAdapters(twoAdapters());
  expect(found.map(({ description }) => description)).toEqual(["Fast 4090", "Frugal 630"]);
});

test("an adapter is found by its number and by a part of its name", async () => {
  const nameOf = async (name: string | null): Promise<string> =>
    (await findAdapter(twoAdapters(), name)).description;
  expect(await nameOf(null)).toBe("Fast 4090");
  expect(await nameOf("1")).toBe("Frugal 630");
  expect(await nameOf("frug")).toBe("Frugal 630");
});

test("one that is not there is an error that lists those that are", async () => {
  for (const name of ["2", "geforce"]) {
    const finding = findAdapter(twoAdapters(), name);
    await expect(finding).rejects.toThrow(DeviceError);
    await expect(finding).rejects.toThrow(`no adapter "${name}". It gives 0: Fast 4090; 1: Frugal 630.`);
  }
});
