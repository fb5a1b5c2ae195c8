import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DeviceError, FormatError, UsageError } from "../../core/errors.ts";
import { atomicFile, fileSource } from "./file.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rwkv-file-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

const isPosix = process.platform !== "win32";
// Permissions do not bind the superuser, whom containers often run as.
const bindsPermissions = isPosix && process.getuid?.() !== 0;

/** The class of all file handles, for making the system fail. */
async function fileHandlePrototype(): Promise<FileHandle> {
  const handle = await open(folder, "r");
  await handle.close();
  return Object.getPrototypeOf(handle) as FileHandle;
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: from the test`), { code });
}

describe("fileSource", () => {
  test("reads any range, also several at once", async () => {
    const path = join(folder, "a.bin");
    writeFileSync(
      path,
      Uint8Array.from({ length: 1000 }, (_, i) => i % 251),
    );
    const source = await fileSource(path);
    expect(source).toMatchObject({ name: path, byteLength: 1000 });
    const targets = [0, 1, 249, 990].map((offset) => ({ offset, target: new Uint8Array(10) }));
    await Promise.all(targets.map(({ offset, target }) => source.read(offset, target)));
    for (const { offset, target } of targets) {
      expect([...target]).toEqual(Array.from({ length: 10 }, (_, i) => (offset + i) % 251));
    }
    await source.close();
  });

  test("reads beyond 4 GiB", async () => {
    const path = join(folder, "sparse.bin");
    const offset = 2 ** 32 + 12345;
    const handle = await open(path, "w");
    await handle.write(Uint8Array.of(7, 8, 9), 0, 3, offset);
    await handle.close();
    const source = await fileSource(path);
    expect(source.byteLength).toBe(offset + 3);
    const target = new Uint8Array(3);
    await source.read(offset, target);
    expect([...target]).toEqual([7, 8, 9]);
    await source.close();
  });

  test("goes on where the system gives less than was asked for", async () => {
    const path = join(folder, "a.bin");
    const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
    writeFileSync(path, bytes);
    const prototype = await fileHandlePrototype();
    const original = Reflect.get(prototype, "read") as (...args: unknown[]) => Promise<unknown>;
    const spy = vi.spyOn(prototype, "read").mockImplementation(function (
      this: FileHandle,
      ...args: unknown[]
    ) {
      const [target, at, wanted, position] = args as [Uint8Array, number, number, number];
      return original.call(this, target, at, Math.min(wanted, 110_000), position) as never;
    });
    const source = await fileSource(path);
    const target = new Uint8Array(240_000);
    await source.read(1, target);
    expect(target).toEqual(bytes.subarray(1, 240_001));
    // The rest is so short that it is read at once.
    expect(spy).toHaveBeenCalledTimes(2);
    await source.close();
  });

  test("a range past the end, and a file that has become shorter, are FormatErrors", async () => {
    const path = join(folder, "a.bin");
    writeFileSync(path, "0123456789");
    const source = await fileSource(path);
    await expect(source.read(8, new Uint8Array(3))).rejects.toThrow(
      "bytes 8 to 11 are needed, but the file has 10",
    );
    truncateSync(path, 4);
    await expect(source.read(2, new Uint8Array(6))).rejects.toThrow(FormatError);
    await expect(source.read(2, new Uint8Array(6))).rejects.toThrow(
      "had 10 bytes when it was opened, but now ends at 4",
    );
    await source.close();
  });

  test("reading after close is a UsageError, closing twice is not; an aborted read rejects with its reason", async () => {
    const path = join(folder, "a.bin");
    writeFileSync(path, "0123456789");
    const source = await fileSource(path);
    await expect(source.read(0, new Uint8Array(1), AbortSignal.abort("stop"))).rejects.toBe("stop");
    await source.close();
    await source.close();
    await expect(source.read(0, new Uint8Array(1))).rejects.toThrow(UsageError);
  });

  test("a failing disk is a DeviceError that names the file", async () => {
    const path = join(folder, "a.bin");
    writeFileSync(path, new Uint8Array(100_000));
    vi.spyOn(await fileHandlePrototype(), "read").mockRejectedValue(systemError("EIO"));
    const source = await fileSource(path);
    await expect(source.read(0, new Uint8Array(100_000))).rejects.toThrow(DeviceError);
    await expect(source.read(0, new Uint8Array(100_000))).rejects.toThrow(path);
    await source.close();
  });

  test("rows are read beyond the source's end, until they are closed", async () => {
    const path = join(folder, "a.bin");
    writeFileSync(path, "0123456789");
    const source = await fileSource(path);
    const rows = source.file!.openRows();
    await source.close();
    const target = new Uint8Array(3);
    rows.read(7, target);
    expect(new TextDecoder().decode(target)).toBe("789");
    rows.close();
    rows.close();
    expect(() => rows.read(0, target)).toThrow(UsageError);
  });

  test("a file that is cut, written to or replaced is not read any more", async () => {
    const path = join(folder, "a.bin");
    const change = {
      cut: () => truncateSync(path, 4),
      "written to": () => {
        writeFileSync(path, "9876543210");
        utimesSync(path, 1, 1); // within one tick of the file system's clock, too
      },
    };
    for (const [what, apply] of Object.entries(change)) {
      writeFileSync(path, "0123456789");
      const source = await fileSource(path);
      const rows = source.file!.openRows();
      apply();
      expect(() => rows.read(0, new Uint8Array(1)), what).toThrow(FormatError);
      expect(() => rows.read(0, new Uint8Array(1)), what).toThrow(
        `${path}: the file had 10 bytes and was last written`,
      );
      rows.close();
      await source.close();
    }
    const replaced = await fileSource(path);
    rmSync(path);
    expect(() => replaced.file!.openRows()).toThrow("does not exist");
    writeFileSync(path, "0123456789");
    expect(() => replaced.file!.openRows()).toThrow("has been changed since");
    await replaced.close();
  });

  test("no such file, a folder, a path through a file, and no path at all are UsageErrors that say so", async () => {
    const file = join(folder, "a.bin");
    writeFileSync(file, "");
    await expect(fileSource(join(folder, "none.bin"))).rejects.toThrow(UsageError);
    await expect(fileSource(join(folder, "none.bin"))).rejects.toThrow(
      "none.bin does not exist. Check the spelling",
    );
    await expect(fileSource(folder)).rejects.toThrow(UsageError);
    await expect(fileSource(folder)).rejects.toThrow(`${folder} is a folder; a file is expected`);
    await expect(fileSource(join(file, "b"))).rejects.toThrow("does not exist");
    await expect(fileSource("a\u0000b")).rejects.toThrow(UsageError);
    await expect(fileSource("x".repeat(5000))).rejects.toThrow(UsageError);
    const empty = await fileSource(file);
    expect(empty.byteLength).toBe(0);
    await empty.close();
  });

  test.skipIf(!isPosix)("a named pipe is refused at once, instead of waiting for its writer", async () => {
    const path = join(folder, "pipe");
    execFileSync("mkfifo", [path]);
    await expect(fileSource(path)).rejects.toThrow("is a device, pipe or socket");
  });

  test.skipIf(!bindsPermissions)("a file without permission is a UsageError that says so", async () => {
    const path = join(folder, "secret.bin");
    writeFileSync(path, "x");
    chmodSync(path, 0);
    await expect(fileSource(path)).rejects.toThrow(UsageError);
    await expect(fileSource(path)).rejects.toThrow("no permission to read");
  });

  test("no permission, too many open files and loops of links have messages of their own", async () => {
    const path = join(folder, "a.bin");
    writeFileSync(path, "x");
    const prototype = await fileHandlePrototype();
    const stat = vi.spyOn(prototype, "stat");
    stat.mockRejectedValueOnce(systemError("EACCES"));
    await expect(fileSource(path)).rejects.toThrow(`${path}: no permission to read. Change the permissions`);
    stat.mockRejectedValueOnce(systemError("EMFILE"));
    await expect(fileSource(path)).rejects.toMatchObject({ code: "DEVICE", message: /ulimit -n/ as never });
    stat.mockRejectedValueOnce(systemError("ELOOP"));
    await expect(fileSource(path)).rejects.toThrow("cannot be the path of a file");
    stat.mockRejectedValueOnce(systemError("EIO"));
    await expect(fileSource(path)).rejects.toThrow("the system could not read it: EIO");
  });
});

describe("atomicFile", () => {
  const text = (content: string) => new TextEncoder().encode(content);

  test("the file appears whole on commit, under its name alone and with the usual mode", async () => {
    const path = join(folder, "out.st");
    const file = await atomicFile(path);
    await file.write(text("hello "));
    await file.write(text(""));
    await file.write(text("world"));
    expect(existsSync(path)).toBe(false);
    await file.commit();
    expect(readFileSync(path, "utf8")).toBe("hello world");
    expect(readdirSync(folder)).toEqual(["out.st"]);
    writeFileSync(join(folder, "usual"), "");
    expect(statSync(path).mode).toBe(statSync(join(folder, "usual")).mode);
  });

  test("a file that is there stays as it is until commit, and passes its mode on", async () => {
    const path = join(folder, "out.st");
    writeFileSync(path, "old");
    if (isPosix) chmodSync(path, 0o640);
    const file = await atomicFile(path);
    await file.write(text("new"));
    expect(readFileSync(path, "utf8")).toBe("old");
    await file.commit();
    expect(readFileSync(path, "utf8")).toBe("new");
    if (isPosix) expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  test.skipIf(!isPosix)("a link stays a link, and what it points to is replaced", async () => {
    mkdirSync(join(folder, "far"));
    const real = join(folder, "far", "real.st");
    writeFileSync(real, "old");
    const link = join(folder, "link.st");
    symlinkSync(real, link);
    const file = await atomicFile(link);
    await file.write(text("new"));
    await file.commit();
    expect(readFileSync(real, "utf8")).toBe("new");
    expect(
      readdirSync(folder, { withFileTypes: true })
        .find(({ name }) => name === "link.st")
        ?.isSymbolicLink(),
    ).toBe(true);
  });

  test("pieces of any length become one file", async () => {
    const path = join(folder, "out.st");
    const all = Uint8Array.from({ length: 9 * 2 ** 20 + 5 }, (_, i) => (i * 31) >>> 3);
    const file = await atomicFile(path);
    const lengths = [1, 4 * 2 ** 20 - 1, 0, 7, 5 * 2 ** 20];
    let at = 0;
    for (const length of lengths) await file.write(all.subarray(at, (at += length)));
    await file.write(all.subarray(at));
    await file.commit();
    expect(Buffer.compare(readFileSync(path), all)).toBe(0);
  });

  test("two files for one path do not meet; the last commit stands", async () => {
    const path = join(folder, "out.st");
    const [first, second] = await Promise.all([atomicFile(path), atomicFile(path)]);
    await Promise.all([first.write(text("first")), second.write(text("second"))]);
    await first.commit();
    await second.commit();
    expect(readFileSync(path, "utf8")).toBe("second");
    expect(readdirSync(folder)).toEqual(["out.st"]);
  });

  test("discard leaves nothing and may come at any time; writing afterwards is a UsageError", async () => {
    const path = join(folder, "out.st");
    const file = await atomicFile(path);
    await file.write(text("x"));
    await file.discard();
    await file.discard();
    expect(readdirSync(folder)).toEqual([]);
    await expect(file.write(text("x"))).rejects.toThrow(UsageError);
    await expect(file.commit()).rejects.toThrow(UsageError);
    const committed = await atomicFile(path);
    await committed.commit();
    await committed.discard();
    expect(readdirSync(folder)).toEqual(["out.st"]);
    await expect(committed.commit()).rejects.toThrow(UsageError);
  });

  test("a full disk is a DeviceError that counts the bytes; the old file stays, nothing else does", async () => {
    const path = join(folder, "out.st");
    writeFileSync(path, "old");
    const prototype = await fileHandlePrototype();
    const original = Reflect.get(prototype, "write") as (...args: unknown[]) => Promise<unknown>;
    let nWrites = 0;
    vi.spyOn(prototype, "write").mockImplementation(function (this: FileHandle, ...args: unknown[]) {
      if (++nWrites === 3) return Promise.reject(systemError("ENOSPC"));
      const [bytes, at, wanted] = args as [Uint8Array, number, number];
      return original.call(this, bytes, at, Math.min(wanted, 4)) as never; // a short write, as before a full disk
    });
    const file = await atomicFile(path);
    await file.write(text("0123456789")); // stays in the buffer
    const committing = file.commit();
    await expect(committing).rejects.toThrow(DeviceError);
    await expect(committing).rejects.toThrow(
      "there is no room for more, after 8 bytes. Nothing was replaced",
    );
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["out.st"]);
    await expect(file.commit()).rejects.toThrow(UsageError);
    await file.discard();
  });

  test("a failure to sync, or to take the name, leaves the folder as it was", async () => {
    const path = join(folder, "out.st");
    const file = await atomicFile(path);
    await file.write(text("x"));
    vi.spyOn(await fileHandlePrototype(), "sync").mockRejectedValueOnce(systemError("EIO"));
    await expect(file.commit()).rejects.toThrow("EIO: from the test, after 1 bytes. Nothing was replaced");
    expect(readdirSync(folder)).toEqual([]);

    const blocked = await atomicFile(path);
    mkdirSync(path); // meanwhile someone makes a folder of that name
    await expect(blocked.commit()).rejects.toThrow(DeviceError);
    expect(readdirSync(folder)).toEqual(["out.st"]);
  });

  test("a folder that is not there, a path that is a folder or a device: UsageErrors, and nothing is made", async () => {
    await expect(atomicFile(join(folder, "none", "out.st"))).rejects.toThrow(UsageError);
    await expect(atomicFile(join(folder, "none", "out.st"))).rejects.toThrow("Create it first");
    await expect(atomicFile(folder)).rejects.toThrow("is a folder; a file is expected");
    if (isPosix) await expect(atomicFile("/dev/null")).rejects.toThrow("is a device, pipe or socket");
    expect(readdirSync(folder)).toEqual([]);
  });

  test.skipIf(!bindsPermissions)("a folder without permission is a UsageError that says so", async () => {
    chmodSync(folder, 0o500);
    await expect(atomicFile(join(folder, "out.st"))).rejects.toThrow("no permission to write");
    chmodSync(folder, 0o700);
  });
});
