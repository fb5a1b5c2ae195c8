// The flags for the session that a command starts from and leaves behind.

import { Option, type Command } from "commander";
import type { Model, Session, SessionDType } from "rwkv";
import { writeFileAtomically } from "./write-file.ts";

export interface StateFlags {
  readonly state?: string;
  readonly anyState?: boolean;
  readonly saveState?: string;
  readonly stateDtype?: SessionDType;
}

/** @param savedWhen - ends the sentence "save the session" */
export function addStateFlags(command: Command, savedWhen: string): Command {
  return command
    .option("--state <file>", "start from a saved session or a tuned time_state")
    .option("--any-state", "take a saved session of another model of the same sizes too")
    .option("--save-state <file>", `save the session ${savedWhen}`)
    .addOption(
      new Option(
        "--state-dtype <dtype>",
        "of the saved state; f16 halves the file and rounds (default: f32)",
      ).choices(["f32", "f16"]),
    );
}

/** The session of `--state`, or a new one. */
export async function sessionFromFlags(model: Model, { state, anyState }: StateFlags): Promise<Session> {
  return state === undefined ? model.createSession() : model.restore(state, { allowOtherModel: anyState });
}

/** Writes the session where `--save-state` says, if it does. */
export async function saveFromFlags(session: Session, { saveState, stateDtype }: StateFlags): Promise<void> {
  if (saveState !== undefined) {
    await writeFileAtomically(saveState, await session.save({ dtype: stateDtype }));
  }
}
