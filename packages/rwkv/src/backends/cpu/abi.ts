// The memory layout that the command list is written in, and the numbers of its operations, activations and dtypes.
// Read by both sides: TypeScript writes it, the kernels (AssemblyScript) read it, so it holds plain constants only.
// All fields are 32 bits wide and little-endian; addresses count bytes from the start of the memory.

/** Counts changes in what the native addon offers beyond these constants (core/native.ts). */
export const ADDON_VERSION = 2;

// Context: one per part of a program (parts.ts), the only address that the kernels are given.
/** Address of the table of tensors. */
export const CONTEXT_TENSORS = 0;
/** Address of the records of the command list. */
export const CONTEXT_RECORDS = 4;
/** Address of the tensor numbers that records point into. */
export const CONTEXT_OPERANDS = 8;
/** Address of the run table of this step, and its length. */
export const CONTEXT_RUNS = 12;
export const CONTEXT_N_RUNS = 16;
/** Rows of this step. */
export const CONTEXT_N_TOKEN_ROWS = 20;
/** Address of the numbers of the rows whose logits are wanted, ascending, and how many they are. */
export const CONTEXT_LOGIT_ROWS = 24;
export const CONTEXT_N_LOGIT_ROWS = 28;
/** Address of room for SCRATCH_ROWS rows of the widest matrix in f32 and 256 bytes, for each thread, and the bytes of one. */
export const CONTEXT_SCRATCH = 32;
export const CONTEXT_SCRATCH_BYTES = 36;
export const CONTEXT_N_RECORDS = 40;
/** Threads that share each step, and the address of the block by which they wait for one another. */
export const CONTEXT_N_THREADS = 44;
export const CONTEXT_CONTROL = 48;
/** Not 0: native threads end the step at the next barrier. Those of WebAssembly have their own word (CONTROL_ABORT). */
export const CONTEXT_ABORT = 52;
/** 1 if activations are rounded to 8 bits in products with quantised weights. */
export const CONTEXT_INT8_ACTIVATIONS = 56;
/** 64 bits each, sums over all steps: inputs of products that skip zeros, and how many of them were skipped. */
export const CONTEXT_INPUTS = 64;
export const CONTEXT_ZERO_INPUTS = 72;
export const CONTEXT_BYTES = 80;

// Tensor: one per handle and per internal scratch, found by number.
/** Address of the data; of a state the offset in its slot. */
export const TENSOR_ADDRESS = 0;
/** Elements of a row, of a state, or of a whole weight. */
export const TENSOR_WIDTH = 4;
/** Bytes from one row to the next; 0 for a weight: as a vector it stands for every row. */
export const TENSOR_ROW_BYTES = 8;
export const TENSOR_DTYPE = 12;
/** Upper half of the address; 0 but for weights outside the memory that 32 bits can address. */
export const TENSOR_ADDRESS_HIGH = 16;
/** LAYOUT_... of a weight. */
export const TENSOR_LAYOUT = 20;
export const TENSOR_BYTES = 24;

// Record: one operation. Its tensors are numbers in the list of operands, in the order given at each operation.
export const RECORD_OP = 0;
/** Where its operands begin in the list, counted in operands, and how many they are. */
export const RECORD_FIRST_OPERAND = 4;
export const RECORD_N_OPERANDS = 8;
/** 1 if it works on the rows whose logits are wanted, 0 if on all rows. */
export const RECORD_IS_LOGIT = 12;
/** Heads of operations that have them. */
export const RECORD_HEADS = 16;
/** f32: epsilon of a norm, scale of an addition. */
export const RECORD_SCALAR = 20;
/** What is applied to the result before it is stored. */
export const RECORD_ACTIVATION = 24;
/** Bytes of one row of the matrix of a product. */
export const RECORD_MATRIX_ROW_BYTES = 28;
/** Columns that are handed to threads as one: each thread works on a range of columns that begins at a multiple. */
export const RECORD_GRANULE = 32;
/** 1 if all threads must have finished the records before it, 0 if a thread may go on without the others. */
export const RECORD_BARRIER = 36;
export const RECORD_BYTES = 40;

// Control: how the threads of a program wait for one another. Each word has a cache line, since others spin on it.
/** Threads that have reached the next barrier. */
export const CONTROL_ARRIVED = 0;
/** Changes when all have reached a barrier: 2 * number of the barrier, plus 1 if the step is given up there. */
export const CONTROL_PHASE = 64;
/** Threads that sleep, or are about to. */
export const CONTROL_SLEEPERS = 128;
/** 1 if the step shall be given up. */
export const CONTROL_ABORT = 192;
export const CONTROL_BYTES = 256;

// Run: one per sequence of the step.
export const RUN_FIRST_ROW = 0;
export const RUN_N_ROWS = 4;
/** Address of the state slot. */
export const RUN_SLOT = 8;
export const RUN_BYTES = 16;

// Operations, with their operands.
/** out, x, weight, bias */
export const OP_LAYER_NORM = 0;
/** out, x, weight, bias */
export const OP_GROUP_NORM = 1;
/** x, shift, then for each output: out, mix */
export const OP_TOKEN_SHIFT = 2;
/** out, x, shift */
export const OP_SHIFT_DELTA = 3;
/** out, x, a, b */
export const OP_ADD_MUL = 4;
/** out, w, x */
export const OP_MATMUL = 5;
/** out, w, x, bias */
export const OP_MATMUL_BIAS = 6;
/** out, x */
export const OP_ACTIVATE = 7;
/** x, y */
export const OP_ADD = 8;
/** x, y */
export const OP_MUL = 9;
/** x, target, weight */
export const OP_LERP = 10;
/** out, x */
export const OP_COPY = 11;
/** out, x */
export const OP_SELECT_ROWS = 12;
/** out, x, scale */
export const OP_L2_NORM_HEADS = 13;
/** k, a, kA */
export const OP_SCALE_KEY = 14;
/** y, r, k, v, rK */
export const OP_ADD_BONUS = 15;
/** y, aa, bb, pp, k, v, decay, first */
export const OP_WKV4 = 16;
/** y, wkv, r, k, v, decay, first */
export const OP_WKV6 = 17;
/** y, wkv, r, w, k, v, kk, a */
export const OP_WKV7 = 18;

export const ACTIVATION_NONE = 0;
export const ACTIVATION_SIGMOID = 1;
export const ACTIVATION_SILU = 2;
export const ACTIVATION_TANH = 3;
export const ACTIVATION_RELU_SQUARED = 4;
export const ACTIVATION_DECAY6 = 5;
export const ACTIVATION_DECAY7 = 6;

export const DTYPE_F32 = 0;
export const DTYPE_F16 = 1;
export const DTYPE_BF16 = 2;
export const DTYPE_Q4_0 = 3;
export const DTYPE_Q4_1 = 4;
export const DTYPE_Q5_0 = 5;
export const DTYPE_Q5_1 = 6;
export const DTYPE_Q8_0 = 7;
export const DTYPE_Q2_K = 8;
export const DTYPE_Q3_K = 9;
export const DTYPE_Q4_K = 10;
export const DTYPE_Q5_K = 11;
export const DTYPE_Q6_K = 12;
export const DTYPE_Q8 = 13;
export const DTYPE_Q4 = 14;
export const DTYPE_NF4 = 15;
export const DTYPE_SF4 = 16;

/** Orders of a matrix's bytes, drawn in core/layout.ts. */
export const LAYOUT_ROWS = 0;
export const LAYOUT_PANELS = 1;
export const LAYOUT_COLUMNS = 2;

/** Rows of a matrix that are decoded together, to be used for all rows of a step; outputs of a panel. */
export const PANEL_ROWS = 16;
/** Of a thread: PANEL_ROWS decoded ones, or as many bytes as 32 rows of x take when rounded. */
export const SCRATCH_ROWS = 20;
