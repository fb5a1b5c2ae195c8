import { describe, expect, test } from "vitest";
import { ByteReader } from "../../core/byte-reader.ts";
import { bytesSource } from "../../core/byte-source.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { isKind, type PickleValue } from "./pickle-values.ts";
import {
  call,
  dict,
  global,
  int,
  list,
  pickle,
  type Pickle,
  setItems,
  storage,
  tensor,
  text,
  tuple,
} from "./testing.ts";
import { OP, unpickle } from "./unpickler.ts";

async function load(value: Pickle): Promise<PickleValue> {
  return (await unpickle(new ByteReader(bytesSource(pickle(value), "test.pth")))).value;
}

/** The bytes as they stand, without PROTO and STOP around them. */
async function loadRaw(...bytes: readonly number[]): Promise<PickleValue> {
  return (await unpickle(new ByteReader(bytesSource(Uint8Array.from(bytes), "test.pth")))).value;
}

const f64 = (value: number): Pickle => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, false);
  return [OP.BINFLOAT, ...bytes];
};
const ascii = (value: string) => [...new TextEncoder().encode(value)];
const tupleOf = (...items: readonly PickleValue[]) => ({ kind: "tuple", items });
const WEIGHT = { key: "0", dtype: "f32", nStored: 6, shape: [2, 3] } as const;

describe("values", () => {
  test.each<[string, Pickle, PickleValue]>([
    ["None", [OP.NONE], null],
    ["True", [OP.NEWTRUE], true],
    ["False", [OP.NEWFALSE], false],
    ["BININT1", [OP.BININT1, 255], 255],
    ["BININT2", [OP.BININT2, 0x34, 0x12], 0x1234],
    ["BININT, negative", [OP.BININT, 0xfe, 0xff, 0xff, 0xff], -2],
    ["LONG1 without bytes", [OP.LONG1, 0], 0],
    ["LONG1, negative", [OP.LONG1, 1, 0xff], -1],
    ["LONG1, up to 2^53 - 1", int(Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER],
    ["LONG1, from 2^53", int(2n ** 53n), 2n ** 53n],
    ["LONG1, negative beyond numbers", int(-(2n ** 70n)), -(2n ** 70n)],
    ["BINFLOAT", f64(-0.1), -0.1],
    ["BINUNICODE", text("né\u{1f426}\uFEFF"), "né\u{1f426}\uFEFF"],
    ["BINUNICODE with a byte order mark", text("\uFEFFa"), "\uFEFFa"],
    ["SHORT_BINUNICODE", [OP.SHORT_BINUNICODE, 2, ...ascii("ab")], "ab"],
    ["SHORT_BINSTRING", [OP.SHORT_BINSTRING, 2, ...ascii("ab")], "ab"],
    ["BINSTRING", [OP.BINSTRING, 2, 0, 0, 0, ...ascii("ab")], "ab"],
    ["POP", [...int(1), ...int(2), OP.POP], 1],
    ["POP of a mark", [...int(1), OP.MARK, OP.POP], 1],
    ["POP_MARK", [...int(1), OP.MARK, ...int(2), ...int(3), OP.POP_MARK], 1],
    ["FRAME", [OP.FRAME, 3, 0, 0, 0, 0, 0, 0, 0, ...int(1)], 1],
    [
      "MEMOIZE numbers its entries in turn",
      [...int(7), OP.MEMOIZE, OP.POP, ...int(8), OP.MEMOIZE, OP.POP, OP.BINGET, 0],
      7,
    ],
    [
      "LONG_BINPUT and LONG_BINGET",
      [...int(7), OP.LONG_BINPUT, 0, 0, 0, 255, OP.POP, OP.LONG_BINGET, 0, 0, 0, 255],
      7,
    ],
  ])("%s", async (_, bytes, want) => {
    expect(await load(bytes)).toBe(want);
  });

  test.each<[string, Pickle, readonly PickleValue[]]>([
    ["EMPTY_TUPLE", [OP.EMPTY_TUPLE], []],
    ["TUPLE1", tuple(int(1)), [1]],
    ["TUPLE2", tuple(int(1), int(2)), [1, 2]],
    ["TUPLE3", tuple(int(1), int(2), int(3)), [1, 2, 3]],
    ["TUPLE", tuple(int(1), int(2), int(3), int(4)), [1, 2, 3, 4]],
    ["DUP", [...int(5), OP.DUP, OP.TUPLE2], [5, 5]],
    ["BINPUT and BINGET", [...int(5), OP.BINPUT, 3, OP.BINGET, 3, OP.TUPLE2], [5, 5]],
  ])("%s", async (_, bytes, want) => {
    expect(await load(bytes)).toEqual(tupleOf(...want));
  });

  test("APPEND and APPENDS fill a list", async () => {
    expect(await load([...list(int(1), int(2)), ...int(3), OP.APPEND])).toEqual({
      kind: "list",
      items: [1, 2, 3],
    });
  });

  test("SETITEM and SETITEMS fill a dictionary, the last value of a key counts", async () => {
    const value = await load([...dict({ a: int(1), b: int(2) }), ...text("a"), ...int(3), OP.SETITEM]);
    expect(value).toEqual({
      kind: "dict",
      entries: new Map([
        ["a", 3],
        ["b", 2],
      ]),
    });
  });

  test("a tensor and every mention of a storage are reported", async () => {
    const { value, storages } = await unpickle(
      new ByteReader(
        bytesSource(pickle(tuple(tensor(WEIGHT), tensor({ ...WEIGHT, offset: 3, shape: [3] })))),
      ),
    );
    const stored = { kind: "storage", key: "0", dtype: "f32", nStored: 6, start: 0, nElements: 6 } as const;
    expect(value).toEqual(
      tupleOf(
        { kind: "tensor", storage: stored, offset: 0, shape: [2, 3], strides: [3, 1] },
        { kind: "tensor", storage: stored, offset: 3, shape: [3], strides: [1] },
      ),
    );
    expect(storages).toEqual([stored, stored]);
  });

  test("counts beyond 2^31 are exact", async () => {
    const value = await load(storage({ key: "0", dtype: "bf16", nStored: 2 ** 40 + 1 }));
    expect(value).toMatchObject({ nStored: 2 ** 40 + 1 });
  });

  test("protocol 4 spells symbols as two strings", async () => {
    const named = [
      ...text("collections"),
      ...text("OrderedDict"),
      OP.STACK_GLOBAL,
      OP.EMPTY_TUPLE,
      OP.REDUCE,
    ];
    expect(await load(named)).toEqual({ kind: "dict", entries: new Map() });
  });

  test("NEWOBJ makes an OrderedDict as REDUCE does", async () => {
    expect(await load([...global("collections", "OrderedDict"), OP.EMPTY_TUPLE, OP.NEWOBJ])).toEqual({
      kind: "dict",
      entries: new Map(),
    });
  });

  test("values that contain themselves are built and not followed", async () => {
    const cyclic = await load([OP.EMPTY_LIST, OP.BINPUT, 0, OP.BINGET, 0, OP.APPEND]);
    expect(isKind(cyclic, "list") && cyclic.items[0] === cyclic).toBe(true);
  });

  test("lists nested 200,000 deep are built without overflow", async () => {
    const value = await load([OP.EMPTY_LIST, ...new Array<number[]>(200_000).fill([OP.TUPLE1]).flat()]);
    expect(isKind(value, "tuple")).toBe(true);
  });

  test("the reader stands behind the pickle", async () => {
    const bytes = pickle(int(1));
    const reader = new ByteReader(bytesSource(Uint8Array.from([...bytes, 99])));
    await unpickle(reader);
    expect(reader.position).toBe(bytes.byteLength);
  });
});

describe("symbols", () => {
  test.each([
    ["os", "system"],
    ["builtins", "eval"],
    ["torch", "load"],
    ["torch._utils", "_rebuild_tensor"],
    ["collections", "OrderedDict.__init__"],
    ["torch.nn.modules.container", "Sequential"],
    ["torch", "__proto__"],
  ])("%s.%s is refused by name where it stands, before any use", async (module, name) => {
    const error: unknown = await load(global(module, name)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FormatError);
    expect(String(error)).toContain(`test.pth: byte 2: the file asks for "${module}.${name}"`);
    expect(String(error)).toContain("torch.save(model.state_dict()");
  });

  test.each([
    ["torch.storage", "UntypedStorage"],
    ["torch.storage", "_TypedStorage"],
    ["torch", "QInt8Storage"],
    ["torch._utils", "_rebuild_tensor_v3"],
  ])("%s.%s is unsupported by name", async (module, name) => {
    await expect(load(global(module, name))).rejects.toThrow(UnsupportedError);
    await expect(load(global(module, name))).rejects.toThrow(`${module}.${name}`);
  });

  test("control characters in a symbol do not reach the terminal", async () => {
    await expect(load(global("a\u001b[2J", "b"))).rejects.toThrow("\\u001b[2J.b");
  });

  test.each<[string, Pickle, string]>([
    ["a storage class", [...global("torch", "FloatStorage"), OP.EMPTY_TUPLE, OP.REDUCE], "a storage class"],
    ["a string", [...text("os.system"), OP.EMPTY_TUPLE, OP.REDUCE], `"os.system"`],
    [
      "arguments that are no tuple",
      [...global("collections", "OrderedDict"), OP.NONE, OP.REDUCE],
      "tuple of arguments",
    ],
    ["an OrderedDict of a number", call("collections", "OrderedDict", int(1)), "list of pairs"],
    [
      "an OrderedDict of single values",
      call("collections", "OrderedDict", list(tuple(int(1)))),
      "expected pairs",
    ],
    [
      "a parameter of a number",
      call("torch._utils", "_rebuild_parameter", int(1), int(1), int(1)),
      "a parameter",
    ],
    ["a tensor without arguments", call("torch._utils", "_rebuild_tensor_v2"), "a tensor as"],
    ["a tensor of a negative dimension", tensor({ ...WEIGHT, shape: [-1] }), "a tensor as"],
    ["a tensor of a huge dimension", tensor({ ...WEIGHT, shape: [2 ** 60], strides: [1] }), "a tensor as"],
    ["a tensor of a negative stride", tensor({ ...WEIGHT, strides: [-1, 1] }), "a tensor as"],
    ["a tensor with a stride too few", tensor({ ...WEIGHT, strides: [1] }), "a tensor as"],
    [
      "a tensor of 17 dimensions",
      tensor({ ...WEIGHT, shape: new Array<number>(17).fill(1) }),
      "16 dimensions",
    ],
    ["a persistent id that is a string", [...text("0"), OP.BINPERSID], "persistent id"],
    [
      "a persistent id of four values",
      [...tuple(text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu")), OP.BINPERSID],
      "persistent id",
    ],
    [
      "a persistent id of another kind",
      [
        ...tuple(text("module"), global("torch", "FloatStorage"), text("0"), text("cpu"), int(1)),
        OP.BINPERSID,
      ],
      "persistent id",
    ],
    ["a storage of a negative count", storage({ ...WEIGHT, nStored: -1 }), "persistent id"],
    [
      "a part past its storage",
      storage({ ...WEIGHT, view: { key: "1", start: 3, nElements: 4 } }, true),
      "a part of it",
    ],
    ["attributes of a list", [...list(), ...dict({}), OP.BUILD], "attributes of a dictionary only"],
    ["a symbol of numbers", [...int(1), ...int(2), OP.STACK_GLOBAL], "module and name"],
    ["a list as a key", [...dict({}), ...list(), ...int(1), OP.SETITEM], "key of a dictionary"],
  ])("%s is refused", async (_, bytes, found) => {
    await expect(load(bytes)).rejects.toThrow(FormatError);
    await expect(load(bytes)).rejects.toThrow(found);
  });
});

describe("damage", () => {
  test.each([
    ["EXT1", 0x82],
    ["INST", 0x69],
    ["OBJ", 0x6f],
    ["PERSID", 0x50],
    ["BINBYTES", 0x42],
    ["NEWOBJ_EX", 0x92],
    ["nothing", 0xff],
  ])("opcode %s is refused by number and place", async (_, opcode) => {
    const hex = opcode.toString(16);
    await expect(loadRaw(OP.NONE, OP.POP, opcode)).rejects.toThrow(
      `test.pth: byte 2: pickle opcode 0x${hex}`,
    );
  });

  test.each<[string, Pickle, string]>([
    ["POP of nothing", [OP.POP], "empty"],
    ["POP_MARK without a mark", [OP.POP_MARK], "a mark is needed"],
    ["DUP of nothing", [OP.DUP], "empty"],
    ["TUPLE2 of one value", [OP.NONE, OP.TUPLE2], "2 values are needed"],
    ["a tuple across a mark", [OP.NONE, OP.MARK, OP.NONE, OP.TUPLE2], "2 values are needed"],
    ["BINPUT of nothing", [OP.BINPUT, 0], "empty"],
    ["BINGET before BINPUT", [OP.BINGET, 9], "memo entry 9"],
    ["APPEND to a tuple", [OP.EMPTY_TUPLE, OP.NONE, OP.APPEND], "a list to append to"],
    ["SETITEM on a list", [OP.EMPTY_LIST, OP.NONE, OP.NONE, OP.SETITEM], "a dictionary to add to"],
    ["SETITEMS of one key", [OP.EMPTY_DICT, OP.MARK, OP.NONE, OP.SETITEMS], "keys and values in turn"],
    ["a string past the end", [OP.BINUNICODE, 9, 0, 0, 0], "a string of 9 bytes is needed"],
    ["a string of 4 GiB", [OP.BINUNICODE, 255, 255, 255, 255], "a string of 4294967295 bytes"],
    ["a string of negative length", [OP.BINSTRING, 255, 255, 255, 255], "a string of -1 bytes"],
    ["a string that is not UTF-8", [OP.SHORT_BINSTRING, 1, 255], "not UTF-8"],
    ["an integer past the end", [OP.LONG1, 9], "an integer of 9 bytes"],
    [
      "a frame past the end",
      [OP.FRAME, 255, 255, 255, 255, 255, 255, 255, 255],
      "a frame of 18446744073709551615 bytes",
    ],
    ["a symbol without an end", [OP.GLOBAL, ...ascii("a".repeat(500))], "more than 128 bytes"],
    ["a symbol cut short", [OP.GLOBAL, ...ascii("torch")], "the name of a symbol"],
    ["an argument past the end", [OP.BININT, 1], "an argument of 4 bytes"],
    ["two values at the end", [OP.NONE, OP.NONE], "2 values"],
    ["no value at the end", [], "0 values"],
    ["an open mark at the end", [OP.NONE, OP.MARK], "1 open marks"],
  ])("%s is refused", async (_, bytes, found) => {
    await expect(load(bytes)).rejects.toThrow(FormatError);
    await expect(load(bytes)).rejects.toThrow(found);
  });

  test("a pickle without STOP is cut short", async () => {
    await expect(loadRaw(OP.NONE)).rejects.toThrow("byte 1: an opcode of 1 bytes is needed");
  });

  test.each([0, 1, 6])("protocol %d is refused", async (protocol) => {
    await expect(loadRaw(OP.PROTO, protocol)).rejects.toThrow(`found ${protocol}`);
  });
});

describe("limits", () => {
  /** `bytes`, many times over, in one pickle. */
  const repeated = (n: number, bytes: Pickle, before: Pickle = []): Promise<PickleValue> => {
    const all = new Uint8Array(before.length + n * bytes.length);
    all.set(before);
    for (let i = 0; i < n; i++) all.set(bytes, before.length + i * bytes.length);
    return unpickle(new ByteReader(bytesSource(all))).then(({ value }) => value);
  };

  test.each<[string, number, Pickle, Pickle, string]>([
    ["values", 100_001, [OP.NONE], [], "100000 values on its stack"],
    ["marks", 100_001, [OP.MARK], [], "100000 values on its stack"],
    ["created values", 1_000_001, [OP.EMPTY_DICT, OP.POP], [], "1000000 tuples"],
    ["memo entries", 1_000_001, [OP.MEMOIZE], [OP.NONE], "1000000 values in its memo"],
  ])("too many %s are refused", async (_, n, bytes, before, found) => {
    await expect(repeated(n, bytes, before)).rejects.toThrow(found);
  });

  test("copying one long list again and again is refused, whatever is kept", async () => {
    const pair = tuple(int(1), int(2));
    const pairs = [...list(...new Array<Pickle>(20_000).fill(pair)), OP.TUPLE1, OP.BINPUT, 0, OP.POP];
    const copy = [...global("collections", "OrderedDict"), OP.BINGET, 0, OP.REDUCE, OP.POP];
    await expect(repeated(100_000, copy, pairs)).rejects.toThrow("1000000 tuples");
  });

  test("a shared tuple doubled 1,000 times costs nothing", async () => {
    const doubled = new Array<number[]>(1_000).fill([OP.DUP, OP.TUPLE2]).flat();
    expect(isKind(await load([OP.NONE, ...doubled]), "tuple")).toBe(true);
    const weights = await load([...dict({}), ...setItems({ x: [OP.NONE, ...doubled] })]);
    expect(isKind(weights, "dict")).toBe(true);
  });
});
