// The process that bandwidth.ts starts: measures, and prints bytes per second, or null where the addon was not built.
// Plain JavaScript, so that it also starts from the sources, which tests run on.

const BYTES = 1e9;
const READS = 5;

const nThreads = Number(process.argv[2]);
const found = await import("rwkv-native").catch(() => null);
const bytesPerSecond = found === null ? null : found.addon.readBandwidth(nThreads, BYTES, READS);
if (bytesPerSecond === 0) throw new Error("the system gives no memory");
process.stdout.write(JSON.stringify(bytesPerSecond));
