// The kernels of training for NEON: the sources of train/ compiled for its instructions. As in kernels_neon.cc, nothing
// here may be an inline function of another header.

#include <arm_neon.h>

#include "abi.h"
#include "kernel_set.h"
#include "train_kernels.h"

#define INLINE [[gnu::always_inline]] static inline
/** Of loops over registers, which must not become loops over memory. */
#define UNROLL _Pragma("GCC unroll 16")

namespace rwkv::neon_train {

#include "kernels/types.h"
#include "kernels/vector_neon.h"
#include "kernels/record.h"
#include "kernels/functions.h"
#include "train/vectors_neon.h"
#include "train/kernels.h"

extern const TrainKernels KERNELS;
const TrainKernels KERNELS{"neon", TRAIN_TABLE, sizeof TRAIN_TABLE / sizeof *TRAIN_TABLE, ROOM_FLOATS, 3 * W};

}  // namespace rwkv::neon_train
