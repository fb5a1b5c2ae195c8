// The contract and the golden files on WebGPU in a browser, with the cases that Node has.

import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { contractCases } from "../contract/cases.ts";
import { FIXTURES, hasFixture, readBytes } from "../golden/fixtures.ts";
import { HAS_BROWSER, openPage, SOFTWARE_GPU } from "../support/browser.ts";
import { IS_WEBGPU_WANTED } from "../support/dawn.ts";
import type { PageResult } from "./page.ts";

/** The golden files by the addresses they get. */
const files: Record<string, Uint8Array> = {};
if (hasFixture("golden/")) {
  for (const folder of readdirSync(new URL("golden/", FIXTURES), { withFileTypes: true })) {
    if (!folder.isDirectory()) continue;
    const path = `golden/${folder.name}`;
    for (const file of readdirSync(new URL(path, FIXTURES)))
      files[`/${path}/${file}`] = readBytes(`${path}/${file}`);
  }
}
const folders = [...new Set(Object.keys(files).map((path) => path.slice(0, path.lastIndexOf("/"))))];

test.skipIf(!HAS_BROWSER || !IS_WEBGPU_WANTED)(
  "every contract case and golden folder is right on WebGPU in Chromium",
  { timeout: 1_200_000 },
  async () => {
    const script = `
      const { checkWebgpu } = await import("/test/webgpu/page.ts");
      return checkWebgpu(${JSON.stringify(folders)});`;
    const result = (await openPage({ script, files, flags: SOFTWARE_GPU })) as PageResult;
    expect(result.errors).toEqual([]);
    expect(result).toMatchObject({ nCases: contractCases().length, nGolden: folders.length });
    expect(result.description).toMatch(/^webgpu: ./);
  },
);
