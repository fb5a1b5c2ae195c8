import { expect, describe, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { FormatError, UsageError } from "../../core/errors.ts";
import { readShardedSafetensors } from "./sharded.ts";
import { readTensor, safetensorsBytes } from "./testing.ts";

/** A folder in memory that knows what was opened and closed. */
class Folder {
  readonly opened: string[] = [];
  readonly closed: string[] = [];
  readonly #files: ReadonlyMap<string, Uint8Array>;

  constructor(files: Readonly<Record<string, Uint8Array>>) {
    this.#files = new Map(Object.entries(files));
  }

  open = (fileName: string): Promise<ByteSource> => {
    const bytes = this.#files.get(fileName);
    if (bytes === undefined) return Promise.reject(new UsageError(`${fileName} does not exist.`));
    this.opened.push(fileName);
    return Promise.resolve(this.source(fileName, bytes));
  };

  source(name: string, bytes: Uint8Array): ByteSource {
    return {
      ...bytesSource(bytes, name),
      close: () => {
        this.closed.push(name);
        return Promise.resolve();
      },
    };
  }
}

const u8 = (begin: number, end: number) => ({
  dtype: "U8",
  shape: [end - begin],
  data_offsets: [begin, end],
});
const FIRST = "model-00001-of-00002.safetensors";
const SECOND = "model-00002-of-00002.safetensors";
const shards = {
  [FIRST]: safetensorsBytes({ a: u8(0, 3), b: u8(3, 5) }, 5),
  [SECOND]: safetensorsBytes({ c: u8(0, 4) }, Uint8Array.of(9, 8, 7, 6)),
};

function open(index: unknown, folder = new Folder(shards)) {
  const text = typeof index === "string" ? index : JSON.stringify(index);
  return readShardedSafetensors(folder.source("index.json", new TextEncoder().encode(text)), folder.open);
}

test("tensors come in the order of the index, each from its own file, which is opened once", async () => {
  const folder = new Folder(shards);
  const index = { metadata: { total_size: 9, nested: {} }, weight_map: { c: SECOND, a: FIRST, b: FIRST } };
  const checkpoint = await open(index, folder);
  expect(checkpoint).toMatchObject({ format: "safetensors", name: "index.json" });
  expect([...checkpoint.metadata]).toEqual([["total_size", 9]]);
  expect([...checkpoint.tensors.keys()]).toEqual(["c", "a", "b"]);
  expect(await readTensor(checkpoint.tensors.get("c"))).toEqual(Uint8Array.of(9, 8, 7, 6));
  expect(await readTensor(checkpoint.tensors.get("b"))).toEqual(Uint8Array.of(3, 4));
  expect(folder.opened).toEqual([SECOND, FIRST]);
  expect(folder.closed).toEqual([]);
  await checkpoint.close();
  expect(folder.closed.sort()).toEqual(["index.json", FIRST, SECOND]);
});

describe("refused, with every file closed that was opened", () => {
  test.each<[string, unknown, string]>([
    [
      "a tensor that is not in its file",
      { a: FIRST, b: FIRST, c: FIRST },
      `tensor "c" should be in ${FIRST}, but is not`,
    ],
    ["a tensor in a file that the index leaves out", { a: FIRST, c: SECOND }, `${FIRST} holds tensor "b"`],
    ["an empty list", {}, "lists 0 tensors"],
    ["a file that is not a string", { a: 1 }, "not a string"],
    ["a list in place of the map", [], 'without a "weight_map"'],
  ])("%s", async (_, weightMap, message) => {
    const folder = new Folder(shards);
    const opening = open({ weight_map: weightMap }, folder);
    await expect(opening).rejects.toThrow(FormatError);
    await expect(opening).rejects.toThrow(message);
    expect(folder.closed.sort()).toEqual(folder.opened.sort());
  });

  test("a file that is damaged", async () => {
    const folder = new Folder({ ...shards, [SECOND]: shards[SECOND].subarray(0, 20) });
    await expect(open({ weight_map: { a: FIRST, b: FIRST, c: SECOND } }, folder)).rejects.toThrow(
      `${SECOND}: `,
    );
    expect(folder.closed.sort()).toEqual([FIRST, SECOND]);
  });

  test("a file that is not there, with the error of whoever looked for it", async () => {
    const folder = new Folder({ [FIRST]: shards[FIRST] });
    await expect(open({ weight_map: { a: FIRST, b: FIRST, c: SECOND } }, folder)).rejects.toThrow(UsageError);
    expect(folder.closed).toEqual([FIRST]);
  });

  test.each([
    ...[
      "../secret",
      "..",
      ".",
      "",
      "/etc/passwd",
      "a/b",
      "a\\b",
      "C:x",
      "%2e%2e",
      "a?b",
      "a#b",
      "a\u0000b",
      ".hidden",
    ],
    ...["\u202egnp.exe", "x".repeat(256)],
  ])("a file called %j, before anything is opened", async (fileName) => {
    const folder = new Folder({ ...shards, [fileName]: shards[FIRST] });
    const opening = open({ weight_map: { c: SECOND, a: fileName } }, folder);
    await expect(opening).rejects.toThrow("only plain names of files in the same folder are opened");
    expect(folder.opened).toEqual([]);
  });

  test("a tensor listed twice, more files than can be open, JSON of another kind, a file that is no JSON", async () => {
    await expect(open(`{"weight_map":{"a":"${FIRST}","a":"${SECOND}"}}`)).rejects.toThrow(
      '"a" is there twice',
    );
    const many = Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`t${i}`, `s${i}`]));
    await expect(open({ weight_map: many })).rejects.toThrow("spread over 1001 files");
    await expect(open({ hidden_size: 768 })).rejects.toThrow("may be the configuration");
    await expect(open("[1]")).rejects.toThrow('without a "weight_map"');
    await expect(open("{")).rejects.toThrow("not valid JSON");
  });

  test("an index as large as a model, before memory is asked for", async () => {
    const source = { ...bytesSource(new Uint8Array(0), "huge.json"), byteLength: 5e9 };
    await expect(readShardedSafetensors(source, new Folder({}).open)).rejects.toThrow(
      "at most 100000000 bytes",
    );
  });
});
