// A process of bench:scaling: what a token costs at several places of one sequence. Sessions that have read up to each
// place take turns, so that whatever else the machine does meets all places alike. Prints milliseconds per token as JSON,
// those of each turn.

import { parseArgs } from "node:util";
import { loadModel, type Session } from "rwkv";

const N_TURNS = 25;
const TOKENS_PER_TURN = 8;

const { values } = parseArgs({
  options: { model: { type: "string" }, threads: { type: "string" }, positions: { type: "string" } },
});
const positions = values.positions!.split(",").map(Number);
await using model = await loadModel(values.model, { threads: Number(values.threads) });
const { nVocab } = model.config;
/** Ids spread over the vocabulary, the same in every run. */
const token = (i: number): number => (i * 7919 + 1) % nVocab;

await using reader = await model.createSession();
const sessions: Session[] = [];
for (const position of positions) {
  await reader.append(Array.from({ length: position - reader.nTokens }, (_, i) => token(reader.nTokens + i)));
  sessions.push(await reader.fork());
}
const target = new Float32Array(nVocab);
const turns = positions.map((): number[] => []);
// The first turn warms up.
for (let turn = 0; turn <= N_TURNS; turn++) {
  for (const [i, session] of sessions.entries()) {
    const start = performance.now();
    for (let n = 0; n < TOKENS_PER_TURN; n++) await session.forward([token(session.nTokens)], { target });
    if (turn > 0) turns[i]!.push((performance.now() - start) / TOKENS_PER_TURN);
  }
}
process.stdout.write(JSON.stringify(turns));
