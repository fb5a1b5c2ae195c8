// How much a .pth file may ask for before any of it is believed. The largest published models have some 2,500 tensors
// and 300 KB of pickle; every limit is far above that and far below what hurts.

/** Bytes of one pickle: `data.pkl`, or all the pickles of a legacy file together. */
export const MAX_PICKLE_BYTES = 16 * 2 ** 20;
/** Bytes of one string in a pickle. */
export const MAX_STRING_BYTES = 2 ** 20;
/** Bytes of the module or name of a global; those allowed have at most 24. */
export const MAX_GLOBAL_BYTES = 128;
/** Values on the pickle machine's stack; this also bounds its marks, and so how deep values nest. */
export const MAX_STACK_VALUES = 100_000;
export const MAX_MEMO_VALUES = 1_000_000;
/** Tuples, lists, dictionaries, storages and tensors that one pickle may create. */
export const MAX_CREATED_VALUES = 1_000_000;
export const MAX_TENSORS = 65_536;
/** Dimensions of one tensor. */
export const MAX_RANK = 16;
/** Entries of the zip archive; one for each storage, and a few more. */
export const MAX_ZIP_ENTRIES = 2 * MAX_TENSORS;
/** Bytes held beside the target while a strided tensor is gathered. */
export const GATHER_WINDOW_BYTES = 4 * 2 ** 20;
