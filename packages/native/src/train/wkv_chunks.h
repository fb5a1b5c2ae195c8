// What wkv6 and wkv7 share: the walk over runs, heads and chunks of rows, and the room that their backward needs.

/** Rows between two kept states; WKV_CHUNK of kernels.ts. */
constexpr size_t WKV_CHUNK = 16;
/** N at most: room for a head lies in `WkvScratch`. */
constexpr size_t MAX_HEAD_SIZE = 128;
/** Rows of S that are run again together, from one checkpoint through a chunk, so that they stay in the nearest cache. */
constexpr size_t WKV_ROWS = 8;

/** For one head: gradients of a chunk's rows that sum over rows of S, the states of some rows of S, the gradient of S. */
struct WkvScratch {
  float sums[5][WKV_CHUNK * MAX_HEAD_SIZE];
  float rates[WKV_CHUNK * MAX_HEAD_SIZE];
  float removed[WKV_CHUNK * WKV_ROWS];
  float history[(WKV_CHUNK + 1) * WKV_ROWS * MAX_HEAD_SIZE];
  float gradient[MAX_HEAD_SIZE * MAX_HEAD_SIZE];
};

struct Chunk {
  size_t firstRow;
  size_t nRows;
};

/** Calls f(chunk, checkpoint of the head) for the chunks of a run in order; `firstChunk` are those of the runs before. */
template <typename F>
INLINE void forChunks(size_t first, size_t end, size_t firstChunk, float* checkpoints, size_t head, size_t nHeads,
                      size_t N, F f) {
  for (size_t row = first, chunk = firstChunk; row < end; row += WKV_CHUNK, chunk++) {
    f(Chunk{row, least(WKV_CHUNK, end - row)}, checkpoints + (chunk * nHeads + head) * N * N);
  }
}

/** The same from the last chunk to the first. */
template <typename F>
INLINE void forChunksBack(size_t first, size_t end, size_t firstChunk, const float* checkpoints, size_t head,
                          size_t nHeads, size_t N, F f) {
  for (size_t left = (end - first + WKV_CHUNK - 1) / WKV_CHUNK; left-- > 0;) {
    const size_t row = first + left * WKV_CHUNK;
    f(Chunk{row, least(WKV_CHUNK, end - row)}, checkpoints + ((firstChunk + left) * nHeads + head) * N * N);
  }
}

/** Calls f(first row, end row, run, chunks of the runs before) for each run. */
template <typename F>
INLINE void forChunkedRuns(const int32_t* runs, size_t nRuns, F f) {
  size_t nChunks = 0;
  forRuns(runs, nRuns, [&](size_t first, size_t end, size_t run) {
    f(first, end, run, nChunks);
    nChunks += (end - first + WKV_CHUNK - 1) / WKV_CHUNK;
  });
}

/** The gradient of the last state, into `gradient`: zero where it is not given. */
INLINE void startGradient(float* gradient, const float* dState, size_t count) {
  if (dState == nullptr) {
    __builtin_memset(gradient, 0, count * sizeof(float));
  } else {
    __builtin_memcpy(gradient, dState, count * sizeof(float));
  }
}

/** Sets or adds the gradients of a chunk's rows of one head. */
INLINE void putRows(float* to, const float* from, Chunk chunk, size_t at, size_t width, size_t N, bool addToThem) {
  for (size_t t = 0; t < chunk.nRows; t++) {
    float* row = to + (chunk.firstRow + t) * width + at;
    forVectors(N, [=](size_t j, size_t n) { setOrAdd(row + j, loadUpTo(from + t * N + j, n), n, addToThem); });
  }
}
