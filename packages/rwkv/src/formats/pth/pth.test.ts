import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bytesSource } from "../../core/byte-source.ts";
import { decodeToF32 } from "../../core/decode.ts";
import { countElements, isWeightDType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { readPth } from "./pth.ts";
import {
  archive,
  archiveFiles,
  call,
  dict,
  int,
  legacy,
  list,
  pickle,
  type Pickle,
  setItems,
} from "./testing.ts";
import { global, tensor, text, tuple, zip } from "./testing.ts";
import { OP } from "./unpickler.ts";

const GOLDEN = new URL("../../../../../../shared/fixtures/golden/", import.meta.url);

const BYTES = Uint8Array.of(1, 2, 3, 4, 5, 6);
/** Six u8 elements as [2, 3]. */
const WEIGHT = tensor({ key: "0", dtype: "u8", nStored: 6, shape: [2, 3] });

function open(bytes: Uint8Array): Promise<Checkpoint> {
  return readPth(bytesSource(bytes, "test.pth"));
}

function openTop(top: Pickle): Promise<Checkpoint> {
  return open(archive(top, { 0: BYTES }));
}

async function bytesOf(checkpoint: Checkpoint, name: string): Promise<number[]> {
  const tensor = checkpoint.tensors.get(name)!;
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.read(bytes);
  return [...bytes];
}

describe("contents", () => {
  test("a plain dictionary gives its tensors by name, in file order", async () => {
    const checkpoint = await openTop(dict({ "z.weight": WEIGHT, "a.weight": WEIGHT }));
    expect(checkpoint).toMatchObject({ format: "pth", name: "test.pth", formatVersion: null });
    expect(checkpoint.metadata.size).toBe(0);
    expect([...checkpoint.tensors.keys()]).toEqual(["z.weight", "a.weight"]);
    expect(checkpoint.tensors.get("z.weight")).toMatchObject({ dtype: "u8", shape: [2, 3], byteLength: 6 });
    expect(await bytesOf(checkpoint, "a.weight")).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("an OrderedDict with the attributes that state_dict() adds reads like a plain one", async () => {
    const metadata = dict({
      _metadata: [...call("collections", "OrderedDict"), ...setItems({ "": dict({ version: int(1) }) })],
    });
    const top = [...call("collections", "OrderedDict"), ...setItems({ w: WEIGHT }), ...metadata, OP.BUILD];
    expect(await bytesOf(await openTop(top), "w")).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("an OrderedDict from a list of pairs reads like a plain one", async () => {
    const top = call("collections", "OrderedDict", list(list(text("w"), WEIGHT), tuple(text("v"), WEIGHT)));
    expect([...(await openTop(top)).tensors.keys()]).toEqual(["w", "v"]);
  });

  test.each(["state_dict", "model"])("weights under a top-level %s are unwrapped", async (key) => {
    const top = dict({ epoch: int(3), step: WEIGHT, [key]: dict({ w: WEIGHT }) });
    expect([...(await openTop(top)).tensors.keys()]).toEqual(["w"]);
  });

  test("entries that are no tensors are left out", async () => {
    const top = dict({
      lr: [OP.BINFLOAT, ...new Array<number>(8).fill(0)],
      w: WEIGHT,
      names: list(text("a")),
      none: [OP.NONE],
    });
    expect([...(await openTop(top)).tensors.keys()]).toEqual(["w"]);
  });

  test("a parameter is its tensor", async () => {
    const parameter = call(
      "torch._utils",
      "_rebuild_parameter",
      WEIGHT,
      [OP.NEWTRUE],
      call("collections", "OrderedDict"),
    );
    expect(await bytesOf(await openTop(dict({ w: parameter })), "w")).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("a list of tensors is refused as a saved state", async () => {
    const error = await openTop(list(WEIGHT, WEIGHT, WEIGHT)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(String(error)).toContain("list of 3 tensors");
  });

  test("what the Python package notes of its conversion becomes metadata, other entries do not", async () => {
    const converted = {
      w: WEIGHT,
      _strategy: text("cpu fp32i8"),
      _version: text("0.7"),
      _rescale_layer: int(0),
    };
    const { metadata, tensors } = await openTop(dict({ ...converted, epoch: int(3) }));
    expect(Object.fromEntries(metadata)).toEqual({
      _strategy: "cpu fp32i8",
      _version: "0.7",
      _rescale_layer: 0,
    });
    expect([...tensors.keys()]).toEqual(["w"]);
  });

  test.each([
    ["an empty dictionary", dict({}), "0 entries"],
    ["a dictionary of other things", dict({ epoch: int(1) }), `the text "epoch"`],
    ["a tensor alone", WEIGHT, "a tensor of shape [2, 3]"],
    ["an empty list", list(), "a list of 0 values"],
    ["a number", int(5), "the number 5"],
    [
      "a dictionary that is its own state_dict",
      [OP.EMPTY_DICT, OP.BINPUT, 0, ...text("state_dict"), OP.BINGET, 0, OP.SETITEM],
      "1 entries",
    ],
  ] as const)("%s is refused with what was found", async (_, top, found) => {
    await expect(openTop(top)).rejects.toThrow(FormatError);
    await expect(openTop(top)).rejects.toThrow(found);
  });

  test("more tensors than any model has are refused", async () => {
    const names: number[] = [];
    for (let i = 0; i < 65_537; i++) names.push(...int(i + 10_000_000), OP.BINGET, 0, OP.SETITEM);
    // Numbers are no names, so these 65,537 do not count ...
    const numbered = [...WEIGHT, OP.BINPUT, 0, OP.POP, OP.EMPTY_DICT, ...names, ...setItems({ w: WEIGHT })];
    expect([...(await openTop(numbered)).tensors.keys()]).toEqual(["w"]);
    // ... but these do.
    const named: number[] = [];
    for (let i = 0; i < 65_537; i++) named.push(...text(i.toString(36)), OP.BINGET, 0, OP.SETITEM);
    await expect(openTop([...WEIGHT, OP.BINPUT, 0, OP.POP, OP.EMPTY_DICT, ...named])).rejects.toThrow(
      "65537 tensors",
    );
  });
});

describe("containers", () => {
  test("closing the checkpoint closes its source, once the tensors are read", async () => {
    let nClosed = 0;
    const source = bytesSource(archive(dict({ w: WEIGHT }), { 0: BYTES }));
    const checkpoint = await readPth({
      ...source,
      close: () => {
        nClosed++;
        return Promise.resolve();
      },
    });
    expect(nClosed).toBe(0);
    await checkpoint.close();
    expect(nClosed).toBe(1);
  });

  test.each([
    ["an empty file", new Uint8Array(0), "empty file"],
    ["another format", new TextEncoder().encode("GGUF...."), "47 47 55 46"],
    ["a zip archive without data.pkl", zip([{ name: "a/b.txt", bytes: BYTES }]).bytes, "one data.pkl"],
    [
      "a zip archive with two",
      zip([...archiveFiles(int(0), {}), { name: "b/data.pkl", bytes: BYTES }]).bytes,
      "found 2",
    ],
    ["another program's pickle", pickle(dict({})), "magic number"],
  ])("%s is refused as no PyTorch file", async (_, bytes, found) => {
    await expect(open(bytes)).rejects.toThrow(FormatError);
    await expect(open(bytes)).rejects.toThrow(found);
  });

  test("a TAR archive is refused by name", async () => {
    const tar = new Uint8Array(512);
    tar.set(new TextEncoder().encode("ustar"), 257);
    await expect(open(tar)).rejects.toThrow(UnsupportedError);
    await expect(open(tar)).rejects.toThrow("TAR archive");
  });

  test("a TorchScript archive is refused by name, compressed parts or not", async () => {
    const files = [...archiveFiles(int(0), {}), { name: "model/constants.pkl", bytes: BYTES, method: 8 }];
    await expect(open(zip(files).bytes)).rejects.toThrow(UnsupportedError);
    await expect(open(zip(files).bytes)).rejects.toThrow("TorchScript");
  });

  test("byte orders other than little are refused", async () => {
    const withOrder = (order: string) =>
      zip([
        ...archiveFiles(dict({ w: WEIGHT }), { 0: BYTES }),
        { name: "model/byteorder", bytes: new TextEncoder().encode(order) },
      ]).bytes;
    expect((await open(withOrder("little"))).tensors.size).toBe(1);
    await expect(open(withOrder("big"))).rejects.toThrow(UnsupportedError);
    await expect(open(withOrder("middle-endian, whatever that is"))).rejects.toThrow(FormatError);
  });

  test("a pickle beyond every model's size is refused before it is read", async () => {
    const huge = zip([{ name: "model/data.pkl", bytes: new Uint8Array(16 * 2 ** 20 + 1) }]).bytes;
    await expect(open(huge)).rejects.toThrow("data.pkl has 16777217 bytes");
  });

  test("a tensor whose storage is missing or of another size is refused when the file is opened", async () => {
    const top = dict({ w: WEIGHT });
    await expect(open(archive(top, {}))).rejects.toThrow("there is none");
    await expect(open(archive(top, { 0: BYTES.subarray(1) }))).rejects.toThrow(
      "needs data/0 with 6 bytes (6 u8), but it has 5",
    );
  });

  test("storages of a class without element type are refused by name", async () => {
    const id = tuple(
      text("storage"),
      global("torch.storage", "UntypedStorage"),
      text("0"),
      text("cpu"),
      int(6),
    );
    const top = dict({ w: [...id, OP.BINPERSID] });
    await expect(openTop(top)).rejects.toThrow(UnsupportedError);
    await expect(openTop(top)).rejects.toThrow("torch.storage.UntypedStorage");
  });

  test("both containers give the same tensors", async () => {
    const stored = [{ key: "0", dtype: "u8", bytes: BYTES }] as const;
    const old = await open(
      legacy(dict({ w: tensor({ key: "0", dtype: "u8", nStored: 6, shape: [2, 3] }, true) }), stored),
    );
    const checkpoint = await openTop(dict({ w: WEIGHT }));
    expect(old.tensors.get("w")).toMatchObject({ dtype: "u8", shape: [2, 3], byteLength: 6 });
    expect(await bytesOf(old, "w")).toEqual(await bytesOf(checkpoint, "w"));
  });
});

const goldenFolders = existsSync(GOLDEN)
  ? readdirSync(GOLDEN).filter((folder) => existsSync(new URL(`${folder}/model.pth`, GOLDEN)))
  : [];
if (goldenFolders.length === 0)
  process.stderr.write(`pth: golden files skipped, ${GOLDEN.pathname} is not there\n`);

describe.skipIf(goldenFolders.length === 0)("files that PyTorch wrote", () => {
  const openGolden = (path: string) =>
    readPth(bytesSource(new Uint8Array(readFileSync(new URL(path, GOLDEN))), path));

  test.each(goldenFolders)("%s has the tensors of its manifest, every value finite", async (folder) => {
    const manifest = JSON.parse(readFileSync(new URL(`${folder}/manifest.json`, GOLDEN), "utf8")) as {
      tensors: [string, number[]][];
    };
    const checkpoint = await openGolden(`${folder}/model.pth`);
    expect([...checkpoint.tensors].map(([name, { shape }]) => [name, shape])).toEqual(manifest.tensors);
    for (const tensor of checkpoint.tensors.values()) {
      const { name, dtype, shape, byteLength } = tensor;
      expect(dtype).toBe("bf16");
      const bytes = new Uint8Array(byteLength);
      await tensor.read(bytes);
      const values = new Float32Array(countElements(shape));
      if (isWeightDType(dtype)) decodeToF32(dtype, bytes, values);
      expect(
        values.findIndex((value) => !Number.isFinite(value)),
        `${folder} ${name}`,
      ).toBe(-1);
      expect(
        values.some((value) => value !== 0),
        `${folder} ${name} has values`,
      ).toBe(true);
    }
  });

  test("a file of tuned states alone has one for each layer", async () => {
    const checkpoint = await openGolden("v7-time-state/time_state.pth");
    expect([...checkpoint.tensors.keys()]).toEqual(["blocks.0.att.time_state", "blocks.1.att.time_state"]);
  });
});
