import { expect, test } from "vitest";
import { DeviceError, UsageError } from "../../core/errors.ts";
import type { KernelSet, NativeAddon } from "../../core/native.ts";
import { findNative, type NativeSearch } from "./native.ts";

const LAYOUT = "A=1 B=2";

function addonWith(kernelSets: readonly KernelSet[], layout = LAYOUT): NativeAddon {
  return { layout, kernelSets } as NativeAddon;
}

/** A search that finds `addon`, or fails as a missing package does. */
function searchFor(
  addon: NativeAddon | null,
  setting?: string,
): NativeSearch & { readonly lines: readonly string[]; readonly nLoads: () => number } {
  const lines: string[] = [];
  let nLoads = 0;
  return {
    setting,
    layout: LAYOUT,
    load: () => {
      nLoads += 1;
      return addon === null
        ? Promise.reject(new Error("Cannot find module 'rwkv_native.node'\nRequire stack: …"))
        : Promise.resolve(addon);
    },
    report: (line) => void lines.push(line),
    lines,
    nLoads: () => nLoads,
  };
}

test("the best kernel set of the processor is taken, or the one that is asked for", async () => {
  const addon = addonWith(["avx512", "avx2"]);
  const kernelSets: unknown[] = [];
  for (const setting of [undefined, "", "1", "avx512", "avx2"]) {
    kernelSets.push((await findNative(searchFor(addon, setting)))?.kernelSet);
  }
  expect(kernelSets).toEqual(["avx512", "avx512", "avx512", "avx512", "avx2"]);
  expect((await findNative(searchFor(addonWith(["neon"]), "neon")))?.kernelSet).toBe("neon");
});

test("RWKV_NATIVE=0 does not even look", async () => {
  const search = searchFor(addonWith(["avx2"]), "0");
  expect(await findNative(search)).toBeNull();
  expect([search.nLoads(), search.lines]).toEqual([0, []]);
});

test("without the addon one line names the command that builds it", async () => {
  const search = searchFor(null);
  expect(await findNative(search)).toBeNull();
  expect(search.lines).toHaveLength(1);
  expect(search.lines[0]).not.toContain("\n");
  expect(search.lines[0]).toMatch(/WebAssembly .*Cannot find module.*"npm run build:native"/);
});

test("an addon of another layout, or a processor with none of the sets, means WebAssembly and a line", async () => {
  for (const [addon, reason] of [
    [addonWith(["avx2"], "A=1 B=3"), /another version.*npm run build:native/],
    [addonWith([]), /none of avx512, avx2, neon/],
  ] as const) {
    const search = searchFor(addon);
    expect(await findNative(search)).toBeNull();
    expect(search.lines[0]).toMatch(reason);
  }
});

test("what is required and cannot be used is an error", async () => {
  const required = [
    [null, "1", /requires the native kernels.*npm run build:native/],
    [addonWith(["avx2"], "A=1"), "1", /another version/],
    [addonWith([]), "1", /none of/],
    [addonWith(["avx2"]), "avx512", /has no avx512; it has avx2/],
    [addonWith(["avx2"]), "neon", /has no neon; it has avx2/],
    [addonWith([]), "neon", /has no neon; it has none of/],
  ] as const;
  for (const [addon, setting, message] of required) {
    const found = findNative(searchFor(addon, setting));
    await expect(found).rejects.toThrow(DeviceError);
    await expect(found).rejects.toThrow(message);
  }
});

test("an unknown setting is refused", async () => {
  await expect(findNative(searchFor(addonWith(["avx2"]), "yes"))).rejects.toThrow(UsageError);
});
