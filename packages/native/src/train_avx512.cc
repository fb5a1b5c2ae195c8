// The kernels of training for AVX-512: the sources of train/ compiled for its instructions. As in kernels_avx512.cc, nothing
// here may be an inline function of another header.

#include <immintrin.h>

#include "abi.h"
#include "kernel_set.h"
#include "train_kernels.h"

#define INLINE [[gnu::always_inline]] static inline
/** Of loops over registers, which must not become loops over memory. */
#define UNROLL _Pragma("GCC unroll 16")

namespace rwkv::avx512_train {

#include "kernels/types.h"
#include "kernels/vector_avx512.h"
#include "kernels/record.h"
#include "kernels/functions.h"
#include "train/vectors_avx512.h"
#include "train/kernels.h"

extern const TrainKernels KERNELS;
const TrainKernels KERNELS{"avx512", TRAIN_TABLE, sizeof TRAIN_TABLE / sizeof *TRAIN_TABLE, ROOM_FLOATS, 3 * W};

}  // namespace rwkv::avx512_train
