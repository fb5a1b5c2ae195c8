// rwkv devices: what there is to run models on.

import type { Command } from "commander";
import { listDevices } from "rwkv";
import { writeLine } from "../output.ts";

interface DevicesFlags {
  readonly json?: boolean;
}

export function addDevices(program: Command): void {
  program
    .command("devices")
    .description("List what models can run on, what --device auto takes, and why what is missing is.")
    .option("--json", "print the list as JSON")
    .action((flags: DevicesFlags) => run(flags));
}

async function run(flags: DevicesFlags): Promise<void> {
  const devices = await listDevices();
  if (flags.json === true) {
    await writeLine(JSON.stringify(devices));
    return;
  }
  const width = Math.max(...devices.map(({ name }) => name.length)) + 2;
  for (const { name, description, isUsable, isPreferred } of devices) {
    const mark = isPreferred ? "auto" : isUsable ? "" : "none";
    await writeLine(`${name.padEnd(width)}${mark.padEnd(6)}${description}`);
  }
}
