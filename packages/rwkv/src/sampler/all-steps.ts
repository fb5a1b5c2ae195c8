// Every step that a chain can be made of.

export { ban, bias, force } from "./bias.ts";
export { mirostat, mirostat1 } from "./mirostat.ts";
export { penalties, repetition } from "./penalties.ts";
export { dry, sequenceRepetition } from "./repeats.ts";
export { greedy, minP, temperature, topK, topP, xtc } from "./steps.ts";
export { tailFree } from "./tail-free.ts";
export { typical } from "./typical.ts";
