// npm run bench:sessions: what keeping, copying and saving a state costs, beside a plain copy of its bytes. Prints a table and
// writes it as JSON.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { loadModel, type Model, type Session } from "rwkv";
import { MODELS_FOLDER } from "./engines.ts";
import { BENCH_DTYPES, randomModel, SHAPES } from "./models.ts";
import {
  describeMachine,
  parseChoices,
  parseCount,
  print,
  progress,
  runScript,
  writeResult,
} from "./script.ts";
import { formatSpread, spreadOf, type Spread } from "./statistics.ts";
import { markdownTable } from "./table.ts";

/** Milliseconds. */
interface Time {
  readonly what: string;
  readonly ms: Spread;
}

/** Tokens read before the measurements; more than are kept as recent ones. */
const N_TOKENS = 1100;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "0.4b" },
      dtype: { type: "string", default: "q4_0" },
      repeat: { type: "string", default: "30" },
      threads: { type: "string", default: String(availableParallelism()) },
    },
  });
  const [shape] = parseChoices("shape", values.shape, SHAPES, ({ name }) => name);
  const [dtype] = parseChoices("dtype", values.dtype, BENCH_DTYPES, (choice) => choice);
  const repeat = parseCount("repeat", values.repeat);
  const threads = parseCount("threads", values.threads);
  const machine = describeMachine();
  const file = await randomModel(MODELS_FOLDER, shape!, dtype!);
  await using model = await loadModel(file, { threads });
  await using session = await model.createSession();
  const { nVocab } = model.config;
  progress(`reading ${N_TOKENS} tokens`);
  await session.append(Array.from({ length: N_TOKENS }, (_, i) => (i * 31) % nVocab));
  const [f32, f16] = [await session.save(), await session.save({ dtype: "f16" })];
  const bytes = { state: model.info.stateByteLength, savedF32: f32.byteLength, savedF16: f16.byteLength };
  const times = await measure(model, session, f32, repeat);

  print(
    `${shape!.name} in ${dtype!} on ${model.info.device}, ${repeat} repeats, milliseconds: median (least to most)\n`,
  );
  print(markdownTable([["operation", "ms"], ...times.map(({ what, ms }) => [what, formatSpread(ms, 3)])], 1));
  print(`\nstate ${bytes.state} bytes; saved ${bytes.savedF32} in f32, ${bytes.savedF16} in f16`);
  const result = { machine, shape: shape!.name, dtype, device: model.info.device, repeat, bytes, times };
  writeResult("sessions.json", `${JSON.stringify(result, null, 2)}\n`);
}

/** @param saved - the session in f32 */
async function measure(model: Model, session: Session, saved: Uint8Array, repeat: number): Promise<Time[]> {
  const state = await session.readState();
  const target = new Float32Array(state.length);
  const logits = new Float32Array(model.config.nVocab);
  const snapshot = await session.snapshot();
  const times: Time[] = [];
  /** @param work - its result is disposed of outside the time */
  const time = async (what: string, work: () => unknown): Promise<void> => {
    const taken: number[] = [];
    // One more, which brings code and memory into play.
    for (let i = 0; i <= repeat; i++) {
      const start = performance.now();
      const made = await work();
      if (i > 0) taken.push(performance.now() - start);
      if (made !== null && typeof made === "object" && Symbol.asyncDispose in made) {
        await (made as AsyncDisposable)[Symbol.asyncDispose]();
      }
    }
    times.push({ what, ms: spreadOf(taken) });
    progress(what);
  };
  await time("copy of the state's bytes", () => target.set(state));
  await time("fork", () => session.fork());
  await time("fork, then one token of the fork", async () => {
    const fork = await session.fork();
    await fork.forward([1], { target: logits });
    return fork;
  });
  await time("one token", () => session.forward([1], { target: logits }));
  await time("snapshot", () => session.snapshot());
  await time("rewind", () => session.rewind(snapshot));
  await time("session from a snapshot", () => model.createSession({ snapshot }));
  await time("save in f32", () => session.save());
  await time("save in f16", () => session.save({ dtype: "f16" }));
  await time("restore from f32", () => model.restore(saved));
  return times;
}

await runScript(main);
