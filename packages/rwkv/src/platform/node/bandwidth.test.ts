import { existsSync } from "node:fs";
import { afterEach, expect, test, vi } from "vitest";
import { DeviceError } from "../../core/errors.ts";
import { readBandwidth } from "./bandwidth.ts";

afterEach(() => vi.unstubAllEnvs());

const hasAddon = existsSync(
  new URL("../../../../native/build/Release/rwkv_native.node", import.meta.url).pathname,
);

test("memory is read at some gigabytes per second; without the addon nothing is known", async () => {
  vi.stubEnv("RWKV_NATIVE", "0");
  const bandwidth = await readBandwidth(1);
  if (!hasAddon) {
    expect(bandwidth).toBeNull();
    return;
  }
  expect(bandwidth).toBeGreaterThan(2e8);
  expect(bandwidth).toBeLessThan(1e13);
});

test("a process that cannot measure is a DeviceError that says how it ended", async () => {
  vi.stubEnv("NODE_OPTIONS", "--no-such-option");
  await expect(readBandwidth(1)).rejects.toThrow(DeviceError);
  await expect(readBandwidth(1)).rejects.toThrow(/takes 1 GB of memory.*--no-such-option/s);
});

test("an abort ends the measurement with its reason, before it begins and within", async () => {
  await expect(readBandwidth(1, AbortSignal.abort("stop"))).rejects.toBe("stop");
  const controller = new AbortController();
  const measured = readBandwidth(1, controller.signal);
  controller.abort("enough");
  await expect(measured).rejects.toBe("enough");
});
