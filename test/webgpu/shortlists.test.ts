// Shortlists of logits on a GPU, against a selection by sorting. The program's logits are its input, so that they are whatever a
// case asks for.

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { restrict } from "../../packages/rwkv/src/backends/webgpu/restrictions.ts";
import { createWebgpuBackend, type WebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { DeviceError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import type { Backend, Run } from "../../packages/rwkv/src/ops/backend.ts";
import {
  MAX_LISTED,
  N_LIKELIEST,
  shortlistElements,
  shortlistOf,
  type ShortlistWanted,
} from "../../packages/rwkv/src/core/shortlist.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { checkpointOf, SIZES, syntheticModel } from "../golden/synthetic.ts";
import { seeded, type Random } from "../contract/data.ts";
import { WEBGPU, WEBGPU_API } from "../support/webgpu.ts";
import { buildEcho } from "./echo.ts";

/** Ids in the order of their logits, NaN first; of equal ones the lower id first. */
function sorted(row: Float32Array, ids: readonly number[]): number[] {
  return [...ids].sort((a, b) => {
    const [x, y] = [row[a]!, row[b]!];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(y)) - Number(Number.isNaN(x)) || a - b;
    return x === y ? a - b : x > y ? -1 : 1;
  });
}

/** Says what is wrong with a shortlist; null if nothing. */
function errorOf(elements: Float32Array, row: Float32Array, wanted: ShortlistWanted): string | null {
  const { ids, logits, weight, listedLogits } = shortlistOf(elements);
  const isListed = new Set(wanted.listed);
  const rest = sorted(
    row,
    Array.from({ length: wanted.nIds }, (_, id) => id).filter((id) => !isListed.has(id)),
  );
  const want = rest.slice(0, N_LIKELIEST).sort((a, b) => a - b);
  const got = [...ids].sort((a, b) => a - b);
  const place = want.findIndex((id, i) => id !== got[i]);
  if (place >= 0) return `the ${place}-th id is ${got[place]!}, not ${want[place]!}`;
  for (const [i, id] of ids.entries()) {
    if (!Object.is(logits[i], row[id])) return `the logit of ${id} is ${logits[i]!}, not ${row[id]!}`;
  }
  for (const [i, id] of wanted.listed.entries()) {
    if (!Object.is(listedLogits[i], row[id]))
      return `the listed logit of ${id} is ${listedLogits[i]!}, not ${row[id]!}`;
  }
  const largest = row[rest[0]!]!;
  if (!Number.isFinite(largest)) return null;
  const sum = rest.reduce((total, id) => total + Math.exp(row[id]! - largest), 0);
  return Math.abs(weight - sum) < 1e-4 * sum ? null : `the weight is ${weight}, not ${sum}`;
}

/** From 0 to below 1; generators give numbers from -1 on. */
const part = (random: Random): number => (random() + 1) / 2;
const SPECIAL = [0, -0, Infinity, -Infinity, NaN, 1e-45, -1e-45, 3.4e38, -3.4e38];
/** NaN with the sign, and with another payload, as no number of JavaScript's own has them. */
const NANS = new Float32Array(Uint32Array.of(0xffc00001, 0x7f800001, 0xff800001).buffer);

const KINDS: Readonly<Record<string, (random: Random) => (id: number) => number>> = {
  random: (random) => () => 10 * random(),
  "of few values": (random) => () => Math.floor(3 * random()),
  rising: () => (id) => id / 1000,
  falling: () => (id) => -id / 1000,
  equal: () => () => 1.5,
  "of zeros of both signs": (random) => () => (part(random) < 0.5 ? 0 : -0),
  "far apart": (random) => () => 1e30 * random(),
  "minus infinity but for few": (random) => (id) => (id % 40 === 7 ? 10 * random() : -Infinity),
  "with infinities, NaN, zeros and the smallest numbers": (random) => () =>
    part(random) < 0.9 ? 10 * random() : SPECIAL[Math.floor(part(random) * SPECIAL.length)]!,
};

function rowOf(kind: string, width: number, random: Random): Float32Array {
  const valueOf = KINDS[kind]!(random);
  return Float32Array.from({ length: width }, (_, id) => valueOf(id));
}

/** Some of the largest, and others; in no order. */
function listedOf(row: Float32Array, nIds: number, nListed: number, random: Random): Uint32Array {
  const all = sorted(
    row,
    Array.from({ length: nIds }, (_, id) => id),
  );
  const likely = all.slice(0, Math.ceil(nListed / 2));
  const others = all.slice(likely.length).sort(() => random());
  return Uint32Array.from([...likely, ...others.slice(0, nListed - likely.length)].reverse());
}

const WIDTHS = [
  { width: 256, nIds: 256, nListed: 0 },
  { width: 300, nIds: 290, nListed: 34 },
  { width: 2048, nIds: 2048, nListed: 100 },
  { width: 2049, nIds: 2049, nListed: 1 },
  { width: 4101, nIds: 3999, nListed: MAX_LISTED },
  { width: 65536, nIds: 65530, nListed: 300 },
];

describe.skipIf(WEBGPU.length === 0)("shortlists", { timeout: 300_000 }, () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await WEBGPU[0]!.create();
  });

  test.each(WIDTHS)(
    "of $nIds of $width logits, $nListed listed, are those that sorting gives, the same each time",
    async ({ width, nIds, nListed }) => {
      const program = await buildEcho(backend, width);
      const slot = program.createSlot();
      const random = seeded(width);
      for (const kind of Object.keys(KINDS)) {
        const row = rowOf(kind, width, random);
        if (kind.includes("NaN")) row.set(NANS, 17);
        const wanted = { listed: listedOf(row, nIds, nListed, random), nIds };
        const runs: Run[] = [{ slot, nRows: 1, logits: "last", shortlist: wanted }];
        const first = (await program.step(runs, [row])).slice();
        expect([kind, first.length]).toEqual([kind, shortlistElements(wanted)]);
        expect([kind, errorOf(first, row, wanted)]).toEqual([kind, null]);
        expect(await program.step(runs, [row])).toEqual(first);
      }
      program.dispose();
    },
  );

  test("hold for any logits, listed ids and rows beside them", async () => {
    const width = 2500;
    const program = await buildEcho(backend, width);
    const slots = Array.from({ length: 8 }, () => program.createSlot());
    const asked = fc.record({
      kind: fc.constantFrom(...Object.keys(KINDS)),
      seed: fc.nat(),
      mode: fc.constantFrom("none", "last", "all", "shortlist"),
      nIds: fc.integer({ min: 700, max: width }),
      nListed: fc.nat(400),
      nRows: fc.integer({ min: 1, max: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(asked, { minLength: 1, maxLength: 4 }), async (sequences) => {
        const lasts: Float32Array[] = [];
        const inputs = sequences.map(({ kind, seed, nRows }) => {
          const rows = rowOf(kind, nRows * width, seeded(seed));
          lasts.push(rows.subarray((nRows - 1) * width));
          return rows;
        });
        const runs = sequences.map(({ mode, nRows, nIds, nListed, seed }, i): Run => {
          const run = { slot: slots[i]!, nRows };
          if (mode !== "shortlist") return { ...run, logits: mode };
          const listed = listedOf(lasts[i]!, nIds, nListed, seeded(seed));
          return { ...run, logits: "last", shortlist: { listed, nIds } };
        });
        const x = Float32Array.from(inputs.flatMap((rows) => [...rows]));
        const got = await program.step(runs, [x]);
        let at = 0;
        for (const [i, { nRows, logits, shortlist }] of runs.entries()) {
          if (shortlist !== undefined) {
            const elements = got.subarray(at, (at += shortlistElements(shortlist)));
            expect(errorOf(elements, lasts[i]!, shortlist)).toBeNull();
          } else {
            const nWanted = logits === "all" ? nRows : logits === "last" ? 1 : 0;
            const rows = got.subarray(at, (at += nWanted * width));
            expect(rows).toEqual(inputs[i]!.subarray((nRows - nWanted) * width));
          }
        }
        expect(got.length).toBe(at);
        for (const [i, { slot, shortlist }] of runs.entries()) {
          if (shortlist === undefined) await expect(program.readLogits!(slot)).rejects.toThrow(UsageError);
          else expect(await program.readLogits!(slot)).toEqual(lasts[i]!);
        }
      }),
      { seed: 7, numRuns: 25 },
    );
    program.dispose();
  });

  test("that cannot be are refused, and nothing is changed", async () => {
    const program = await buildEcho(backend, 400);
    const slot = program.createSlot();
    const step = (
      listed: readonly number[],
      nIds: number,
      logits: Run["logits"] = "last",
    ): Promise<unknown> =>
      program.step(
        [{ slot, nRows: 1, logits, shortlist: { listed: Uint32Array.from(listed), nIds } }],
        [new Float32Array(400)],
      );
    const ids = Array.from({ length: 145 }, (_, i) => i);
    for (const [refused, why] of [
      [step([], 400, "all"), /shortlist of slot 0 is of the last row's logits, but the run wants "all"/],
      [step([], 401), /is of 401 ids; give a whole number of at most 400/],
      [step([], 300.5), /is of 300.5 ids/],
      [step(ids, 400), /needs 256 ids beside the 145 listed, but there are 400 in all/],
      [step([1, 2, 1], 400), /lists id 1 twice/],
      [step([390], 390), /lists id 390; give ids below 390/],
    ] as const) {
      await expect(refused).rejects.toThrow(UsageError);
      await expect(refused).rejects.toThrow(why);
    }
    await expect(program.readLogits!(slot)).rejects.toThrow(UsageError);
    await step([1, 2], 400);
    program.dispose();
    const large = await buildEcho(backend, 3000);
    const many = {
      slot: large.createSlot(),
      nRows: 1,
      logits: "last",
      shortlist: { listed: Uint32Array.from({ length: MAX_LISTED + 1 }, (_, i) => i), nIds: 3000 },
    } as const;
    await expect(large.step([many], [new Float32Array(3000)])).rejects.toThrow(
      /lists 2049 ids; give at most 2048/,
    );
    large.dispose();
  });

  test("are not to be had of fewer logits than they have tokens", async () => {
    const program = await buildEcho(backend, 255);
    expect(program.hasShortlists).toBe(false);
    const slot = program.createSlot();
    const run = {
      slot,
      nRows: 1,
      logits: "last",
      shortlist: { listed: new Uint32Array(0), nIds: 255 },
    } as const;
    await expect(program.step([run], [new Float32Array(255)])).rejects.toThrow(/has 255 logits in all/);
    await expect(program.readLogits!(slot)).rejects.toThrow(UsageError);
    program.dispose();
  });

  test("take memory with the first one, of which nothing is left after dispose", async () => {
    const before = backend.countBuffers();
    const program = await buildEcho(backend, 5000);
    const slot = program.createSlot();
    const run = { slot, nRows: 1, logits: "last" } as const;
    await program.step([run], [new Float32Array(5000)]);
    const without = backend.countBuffers();
    const shortlist = { listed: Uint32Array.of(3), nIds: 5000 };
    await program.step([{ ...run, shortlist }], [new Float32Array(5000)]);
    await program.readLogits!(slot);
    expect(backend.countBuffers().nBuffers).toBe(without.nBuffers + 5);
    program.dispose();
    expect(backend.countBuffers()).toEqual(before);
  });

  test.each([
    [
      "a shortlist does not have the likeliest tokens",
      "~bits, bits >= 0x80000000u",
      "bits, bits >= 0x80000000u",
    ],
    [
      "the weight of a shortlist is off by",
      "exp(logit_of(k) - logit_of(top))",
      "exp(0.9 * (logit_of(k) - logit_of(top)))",
    ],
    ["the logits kept are others", "kept_row, id, bits)", "kept_row, id, bits ^ 1u)"],
  ])("that a driver makes wrongly are seen by its self-test: %s", async (what, right, wrong) => {
    const gpu = restrict(WEBGPU_API!, { compiles: (text) => text.replace(right, wrong) });
    const createOracle = (): Promise<Backend> => Promise.resolve(createReferenceBackend());
    const weights = canonicalWeights(checkpointOf(syntheticModel("7", { ...SIZES, nVocab: 600 })));
    const loading = loadProgram(await createWebgpuBackend(gpu, { createOracle }), weights, { maxRows: 4 });
    await expect(loading).rejects.toThrow(DeviceError);
    await expect(loading).rejects.toThrow(`computes wrongly: in its self-test ${what}`);
  });

  test("of a lost device are the DeviceError that all calls are", async () => {
    const own = await createWebgpuBackend(restrict(WEBGPU_API!, {}));
    const program = await buildEcho(own, 300);
    const run = { slot: program.createSlot(), nRows: 1, logits: "last" } as const;
    const shortlist = { listed: new Uint32Array(0), nIds: 300 };
    const step = (): Promise<Float32Array> => program.step([{ ...run, shortlist }], [new Float32Array(300)]);
    await step();
    await own.loseDevice();
    await expect(program.readLogits!(run.slot)).rejects.toThrow(/was lost.*model\.reload\(\)/);
    await expect(step()).rejects.toThrow(DeviceError);
    program.dispose();
  });
});
