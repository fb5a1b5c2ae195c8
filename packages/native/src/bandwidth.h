// How fast this machine's memory can be read: what bounds a decoded token, since each reads all weights once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkv {

/**
 * Bytes per second, the best of `nReads` reads of `byteLength` bytes by `nThreads` threads, each of which reads its own
 * part from end to end with the widest vectors of the best kernel set. The bytes lie in pages like those of weights, all
 * touched before.
 * @returns 0 if the system gives no memory, or no kernel set can be run
 */
double readBandwidth(uint32_t nThreads, size_t byteLength, uint32_t nReads);

}  // namespace rwkv
