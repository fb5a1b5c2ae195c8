// Flags of WebGPU, whose global constants Node does not have.

/** What a buffer may be used for. */
export const USAGE = { mapRead: 1, copySrc: 4, copyDst: 8, uniform: 64, storage: 128 } as const;

/** The mode of a mapping for reading. */
export const MAP_READ = 1;
