// The NEON kernel set with the dot products of 8-bit numbers that most processors since ARMv8.2 have: the sources of
// kernels/ compiled for its instructions. Nothing here may be an inline function of another header, which the linker
// could hand to code that runs on every processor.

#include <arm_neon.h>

#include "abi.h"
#include "kernel_set.h"

#define INLINE [[gnu::always_inline]] static inline
/** Of loops over registers, which must not become loops over memory. */
#define UNROLL _Pragma("GCC unroll 16")
/** Of loops that must stay loops. */
#define ROLLED _Pragma("GCC unroll 1")

namespace rwkv::neon_dot {

#include "kernels/types.h"
#include "kernels/vector_neon.h"
#include "kernels/record.h"
#include "kernels/functions.h"
#include "kernels/pointwise.h"
#include "kernels/norms.h"
#include "kernels/wkv.h"
#include "kernels/panel_blocks.h"
#include "kernels/matmul.h"
#include "kernels/activations.h"
#include "kernels/matmul_int8.h"
#include "kernels/columns_neon.h"
#include "kernels/columns.h"
#include "kernels/columns_dense.h"
#include "kernels/columns_run.h"
#include "kernels/pack_columns.h"
#include "kernels/pack.h"
#include "kernels/sum_lines.h"
#include "kernels/run.h"

extern const KernelSet KERNELS;
const KernelSet KERNELS{"neon", pack, scratchBytes, run, sumLines};

}  // namespace rwkv::neon_dot
