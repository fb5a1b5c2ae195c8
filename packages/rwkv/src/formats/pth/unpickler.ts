// The pickle machine, as far as checkpoints need it: data only, nothing is ever imported or called (see globals.ts).
// Opcodes are those of Python's Lib/pickletools.py, protocol 2 and the part of protocol 4 that torch.save can write.
// The work is linear in the bytes read; stack, memo, strings and created values are bounded (see limits.ts).

import type { ByteReader } from "../../core/byte-reader.ts";
import { FormatError } from "../../core/errors.ts";
import {
  buildOrderedDict,
  buildParameter,
  buildTensor,
  findGlobal,
  SAVE_WEIGHTS_ALONE,
  setEntry,
  storageOfPersistentId,
} from "./globals.ts";
import {
  MAX_CREATED_VALUES,
  MAX_GLOBAL_BYTES,
  MAX_MEMO_VALUES,
  MAX_STACK_VALUES,
  MAX_STRING_BYTES,
} from "./limits.ts";
import { describeValue, isKind, type PickleStorage, type PickleValue } from "./pickle-values.ts";

export const OP = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  BINFLOAT: 0x47,
  BININT: 0x4a,
  BININT1: 0x4b,
  BININT2: 0x4d,
  NONE: 0x4e,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  APPENDS: 0x65,
  BINGET: 0x68,
  LONG_BINGET: 0x6a,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  SHORT_BINUNICODE: 0x8c,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
} as const;

/** Bytes of the argument of each opcode that has one of fixed length. */
const ARGUMENT_BYTES: ReadonlyMap<number, number> = new Map<number, number>([
  [OP.BINFLOAT, 8],
  [OP.BININT, 4],
  [OP.BININT1, 1],
  [OP.BININT2, 2],
  [OP.BINSTRING, 4],
  [OP.SHORT_BINSTRING, 1],
  [OP.BINUNICODE, 4],
  [OP.BINGET, 1],
  [OP.LONG_BINGET, 4],
  [OP.BINPUT, 1],
  [OP.LONG_BINPUT, 4],
  [OP.PROTO, 1],
  [OP.LONG1, 1],
  [OP.SHORT_BINUNICODE, 1],
  [OP.FRAME, 8],
]);

const OLDEST_PROTOCOL = 2;
const NEWEST_PROTOCOL = 5;
const LINE_FEED = 10;

// A byte order mark at the start of a name belongs to the name.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export interface Unpickled {
  readonly value: PickleValue;
  /** Every storage that the pickle mentions, in order of appearance; one for each mention. */
  readonly storages: readonly PickleStorage[];
}

/**
 * Reads one pickle and leaves the reader behind it.
 * @param reader - at the first byte of the pickle; its end bounds what is read
 * @throws FormatError for damage, an opcode or symbol that weights do not need, or a limit that is passed
 * @throws UnsupportedError for storages of other element types
 */
export async function unpickle(reader: ByteReader): Promise<Unpickled> {
  // The end is not known before; without this, each of many thousand opcodes would wait for its bytes.
  await reader.ensure(reader.remaining, "the pickle");
  const machine = new PickleMachine(reader);
  while (machine.step());
  return machine.result();
}

class PickleMachine {
  readonly #reader: ByteReader;
  readonly #stack: PickleValue[] = [];
  /** Stack heights at the open marks, outermost first. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  readonly #storages: PickleStorage[] = [];
  #nCreated = 0;
  /** Address of the opcode being executed. */
  #position = 0;

  constructor(reader: ByteReader) {
    this.#reader = reader;
  }

  /** Executes one opcode; false after the last. */
  step(): boolean {
    const reader = this.#reader;
    this.#position = reader.position;
    this.#checkRemaining(1, "an opcode");
    const opcode = reader.u8();
    this.#checkRemaining(ARGUMENT_BYTES.get(opcode) ?? 0, "an argument");

    switch (opcode) {
      case OP.PROTO:
        this.#checkProtocol(reader.u8());
        break;
      case OP.FRAME:
        this.#checkRemaining(reader.u64(), "a frame");
        break;
      case OP.STOP:
        return false;

      case OP.NONE:
        this.#push(null);
        break;
      case OP.NEWTRUE:
        this.#push(true);
        break;
      case OP.NEWFALSE:
        this.#push(false);
        break;
      case OP.BININT:
        this.#push(reader.i32());
        break;
      case OP.BININT1:
        this.#push(reader.u8());
        break;
      case OP.BININT2:
        this.#push(reader.u16());
        break;
      case OP.LONG1:
        this.#push(this.#readLong(reader.u8()));
        break;
      case OP.BINFLOAT:
        this.#push(readBigEndianF64(reader.bytes(8)));
        break;
      case OP.BINUNICODE:
        this.#push(this.#readString(reader.u32()));
        break;
      case OP.SHORT_BINUNICODE:
      case OP.SHORT_BINSTRING:
        this.#push(this.#readString(reader.u8()));
        break;
      case OP.BINSTRING:
        this.#push(this.#readString(reader.i32()));
        break;

      case OP.MARK:
        this.#marks.push(this.#stack.length);
        this.#checkStack();
        break;
      case OP.POP:
        this.#popOrUnmark();
        break;
      case OP.POP_MARK:
        this.#popToMark();
        break;
      case OP.DUP:
        this.#push(this.#top());
        break;
      case OP.BINPUT:
        this.#memoize(reader.u8());
        break;
      case OP.LONG_BINPUT:
        this.#memoize(reader.u32());
        break;
      case OP.MEMOIZE:
        this.#memoize(this.#memo.size);
        break;
      case OP.BINGET:
        this.#recall(reader.u8());
        break;
      case OP.LONG_BINGET:
        this.#recall(reader.u32());
        break;

      case OP.EMPTY_TUPLE:
        this.#create({ kind: "tuple", items: [] });
        break;
      case OP.TUPLE1:
        this.#create({ kind: "tuple", items: this.#popN(1) });
        break;
      case OP.TUPLE2:
        this.#create({ kind: "tuple", items: this.#popN(2) });
        break;
      case OP.TUPLE3:
        this.#create({ kind: "tuple", items: this.#popN(3) });
        break;
      case OP.TUPLE:
        this.#create({ kind: "tuple", items: this.#popToMark() });
        break;
      case OP.EMPTY_LIST:
        this.#create({ kind: "list", items: [] });
        break;
      case OP.APPEND:
        this.#append(this.#popN(1));
        break;
      case OP.APPENDS:
        this.#append(this.#popToMark());
        break;
      case OP.EMPTY_DICT:
        this.#create({ kind: "dict", entries: new Map() });
        break;
      case OP.SETITEM:
        this.#setItems(this.#popN(2));
        break;
      case OP.SETITEMS:
        this.#setItems(this.#popToMark());
        break;

      case OP.GLOBAL: {
        const module = this.#readLine();
        const name = this.#readLine();
        this.#create(findGlobal(module, name, this.#where()));
        break;
      }
      case OP.STACK_GLOBAL: {
        const [module, name] = this.#popN(2);
        if (typeof module !== "string" || typeof name !== "string") {
          this.#fail(
            `expected the module and name of a symbol, found ${describeValue(module)} and ${describeValue(name)}`,
          );
        }
        this.#create(findGlobal(module, name, this.#where()));
        break;
      }
      case OP.REDUCE:
      case OP.NEWOBJ: {
        const [callee, args] = this.#popN(2);
        this.#reduce(callee, args);
        break;
      }
      case OP.BUILD: {
        // The attributes of an OrderedDict (`_metadata` of state_dict()) say nothing about the weights.
        this.#popN(1);
        const object = this.#top();
        if (!isKind(object, "dict")) {
          this.#fail(`expected attributes of a dictionary only, found those of ${describeValue(object)}`);
        }
        break;
      }
      case OP.BINPERSID: {
        const storage = storageOfPersistentId(this.#popN(1)[0]!, this.#where());
        this.#storages.push(storage);
        this.#create(storage);
        break;
      }

      default:
        throw new FormatError(
          `${this.#where()}: pickle opcode 0x${opcode.toString(16).padStart(2, "0")} is not used for weights. Either the ` +
            `file is damaged, or it holds other things too. ${SAVE_WEIGHTS_ALONE}`,
        );
    }
    return true;
  }

  result(): Unpickled {
    const [value] = this.#stack;
    if (value === undefined || this.#stack.length !== 1 || this.#marks.length !== 0) {
      this.#fail(
        `the pickle ends with ${this.#stack.length} values and ${this.#marks.length} open marks instead of one value`,
      );
    }
    return { value, storages: this.#storages };
  }

  #where(): string {
    return `${this.#reader.source.name}: byte ${this.#position}`;
  }

  #fail(what: string): never {
    throw new FormatError(`${this.#where()}: ${what}. The file is damaged: download or save it again.`);
  }

  #failLimit(what: string): never {
    throw new FormatError(
      `${this.#where()}: the pickle has more than ${what}. It is damaged or no model. ${SAVE_WEIGHTS_ALONE}`,
    );
  }

  // The stack

  #checkStack(): void {
    if (this.#stack.length + this.#marks.length > MAX_STACK_VALUES) {
      this.#failLimit(`${MAX_STACK_VALUES} values on its stack`);
    }
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
    this.#checkStack();
  }

  #create(value: PickleValue): void {
    this.#charge(1);
    this.#push(value);
  }

  #charge(nCreated: number): void {
    this.#nCreated += nCreated;
    if (this.#nCreated > MAX_CREATED_VALUES)
      this.#failLimit(`${MAX_CREATED_VALUES} tuples, lists and dictionaries`);
  }

  /** How many values lie above the innermost mark, out of reach of which nothing may be popped. */
  #nAvailable(): number {
    return this.#stack.length - (this.#marks.at(-1) ?? 0);
  }

  #popN(n: number): PickleValue[] {
    if (this.#nAvailable() < n)
      this.#fail(`${n} values are needed from the stack, but it has ${this.#nAvailable()}`);
    return this.#stack.splice(this.#stack.length - n, n);
  }

  #popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.#fail("a mark is needed on the stack, but there is none");
    return this.#stack.splice(mark);
  }

  #popOrUnmark(): void {
    if (this.#nAvailable() > 0) this.#stack.pop();
    else if (this.#marks.pop() === undefined) this.#fail("a value is needed from the stack, but it is empty");
  }

  #top(): PickleValue {
    if (this.#nAvailable() < 1) this.#fail("a value is needed on the stack, but it is empty");
    return this.#stack.at(-1)!;
  }

  #memoize(index: number): void {
    this.#memo.set(index, this.#top());
    if (this.#memo.size > MAX_MEMO_VALUES) this.#failLimit(`${MAX_MEMO_VALUES} values in its memo`);
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) this.#fail(`memo entry ${index} is used before it is set`);
    this.#push(value);
  }

  // Building values

  #append(items: readonly PickleValue[]): void {
    const list = this.#top();
    if (!isKind(list, "list")) this.#fail(`expected a list to append to, found ${describeValue(list)}`);
    for (const item of items) list.items.push(item);
  }

  #setItems(items: readonly PickleValue[]): void {
    const dict = this.#top();
    if (!isKind(dict, "dict")) {
      this.#fail(`expected a dictionary to add to, found ${describeValue(dict)}`);
    }
    if (items.length % 2 !== 0) this.#fail(`expected keys and values in turn, found ${items.length} of them`);
    const where = this.#where();
    for (let i = 0; i < items.length; i += 2) setEntry(dict.entries, items[i]!, items[i + 1]!, where);
  }

  #reduce(callee: PickleValue | undefined, args: PickleValue | undefined): void {
    if (!isKind(args, "tuple")) {
      this.#fail(`expected a tuple of arguments, found ${describeValue(args)}`);
    }
    const kind = typeof callee === "object" && callee !== null ? callee.kind : undefined;
    switch (kind) {
      case "ordered dict class": {
        const [pairs] = args.items;
        // The pairs are copied, and one list of them may be named again and again.
        if (isKind(pairs, "list")) this.#charge(pairs.items.length);
        this.#create(buildOrderedDict(args.items, this.#where()));
        break;
      }
      case "tensor function":
        this.#create(buildTensor(args.items, this.#where()));
        break;
      case "parameter function":
        this.#push(buildParameter(args.items, this.#where()));
        break;
      default:
        this.#fail(`expected one of the known functions to apply, found ${describeValue(callee)}`);
    }
  }

  // Arguments of opcodes

  #checkProtocol(protocol: number): void {
    if (protocol >= OLDEST_PROTOCOL && protocol <= NEWEST_PROTOCOL) return;
    this.#fail(`expected pickle protocol ${OLDEST_PROTOCOL} to ${NEWEST_PROTOCOL}, found ${protocol}`);
  }

  #checkRemaining(byteLength: number | bigint, what: string): void {
    if (byteLength <= this.#reader.remaining) return;
    this.#fail(
      `${what} of ${byteLength} bytes is needed, but the pickle has only ${this.#reader.remaining} left`,
    );
  }

  #readString(byteLength: number): string {
    if (byteLength < 0 || byteLength > MAX_STRING_BYTES) {
      this.#fail(`a string of ${byteLength} bytes begins; at most ${MAX_STRING_BYTES} are expected`);
    }
    this.#checkRemaining(byteLength, "a string");
    const bytes = this.#reader.bytes(byteLength);
    try {
      return utf8.decode(bytes);
    } catch {
      return this.#fail("a string is not UTF-8");
    }
  }

  /** Two's complement, little-endian. */
  #readLong(byteLength: number): number | bigint {
    this.#checkRemaining(byteLength, "an integer");
    const bytes = this.#reader.bytes(byteLength);
    let value = 0n;
    for (let i = byteLength - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    value = BigInt.asIntN(8 * byteLength, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  /** The bytes up to the next line feed. */
  #readLine(): string {
    let line = "";
    for (;;) {
      this.#checkRemaining(1, "the name of a symbol");
      const byte = this.#reader.u8();
      if (byte === LINE_FEED) return line;
      line += String.fromCharCode(byte);
      if (line.length > MAX_GLOBAL_BYTES)
        this.#fail(`the name of a symbol has more than ${MAX_GLOBAL_BYTES} bytes`);
    }
  }
}

function readBigEndianF64(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, false);
}
