// Replays the command list: the entry of the module for one thread. No mutable globals and no static data: several
// threads may run one module on one memory.

import {
  CONTEXT_RECORDS,
  CONTEXT_SCRATCH,
  CONTEXT_SCRATCH_BYTES,
  OP_ACTIVATE,
  OP_ADD_BONUS,
  OP_GROUP_NORM,
  OP_L2_NORM_HEADS,
  OP_LAYER_NORM,
  OP_MATMUL,
  OP_MATMUL_BIAS,
  OP_SELECT_ROWS,
  OP_SHIFT_DELTA,
  OP_TOKEN_SHIFT,
  OP_WKV4,
  OP_WKV6,
  OP_WKV7,
  RECORD_BYTES,
  RECORD_OP,
} from "../abi.ts";
import { activate, elementwise, selectRows } from "./elementwise.ts";
import { matmul } from "./matmul.ts";
import { addBonus, groupNorm, l2NormHeads, layerNorm } from "./norms.ts";
import { shiftDelta, tokenShift } from "./shift.ts";
import { isFiniteColumns, packColumns } from "./pack-columns.ts";
import { isFinitePanels, pack } from "./pack.ts";
import { wkv4, wkv6, wkv7 } from "./wkv.ts";

@inline
function runRecord(context: usize, record: usize, part: i32, nParts: i32, scratch: usize): void {
  switch (load<i32>(record, RECORD_OP)) {
    case OP_LAYER_NORM:
      layerNorm(context, record, part, nParts);
      break;
    case OP_GROUP_NORM:
      groupNorm(context, record, part, nParts);
      break;
    case OP_TOKEN_SHIFT:
      tokenShift(context, record, part, nParts);
      break;
    case OP_SHIFT_DELTA:
      shiftDelta(context, record, part, nParts);
      break;
    case OP_MATMUL:
    case OP_MATMUL_BIAS:
      matmul(context, record, part, nParts, scratch);
      break;
    case OP_ACTIVATE:
      activate(context, record, part, nParts);
      break;
    case OP_SELECT_ROWS:
      selectRows(context, record, part, nParts);
      break;
    case OP_L2_NORM_HEADS:
      l2NormHeads(context, record, part, nParts);
      break;
    case OP_ADD_BONUS:
      addBonus(context, record, part, nParts);
      break;
    case OP_WKV4:
      wkv4(context, record, part, nParts);
      break;
    case OP_WKV6:
      wkv6(context, record, part, nParts);
      break;
    case OP_WKV7:
      wkv7(context, record, part, nParts);
      break;
    default:
      elementwise(context, record, part, nParts);
  }
}

/**
 * Runs part `part` of `nParts` of the records [first, last), on thread `thread`. The parts of one record are independent
 * of each other; all of them must be done before a record that asks for it (RECORD_BARRIER).
 */
export function run(context: usize, first: i32, last: i32, part: i32, nParts: i32, thread: i32): void {
  const records = load<usize>(context, CONTEXT_RECORDS);
  const scratch = load<usize>(context, CONTEXT_SCRATCH) + <usize>thread * load<usize>(context, CONTEXT_SCRATCH_BYTES);
  for (let i = first; i < last; i++) {
    runRecord(context, records + <usize>i * RECORD_BYTES, part, nParts, scratch);
  }
}

// For the host, which keeps the weights.
export { isFiniteColumns, isFinitePanels, pack, packColumns };
