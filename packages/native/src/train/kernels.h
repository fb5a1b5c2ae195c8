// The kernels of training, by the names that JavaScript calls them by. The maths of each, the shapes of its arguments and
// which of them may be the same are written in packages/train/src/kernels/kernels.ts. Here arguments stand in the same
// order, with the length of a list behind the last list, the number of runs behind `runs`, and room at the end.

#include "rows.h"
#include "gemm.h"
#include "activate.h"
#include "norms.h"
#include "shift.h"
#include "wkv_chunks.h"
#include "wkv4.h"
#include "wkv6.h"
#include "wkv7.h"
#include "loss.h"
#include "optimizer.h"
#include "call.h"

constexpr TrainKernel TRAIN_TABLE[] = {
    kernel<gemm>("gemm"),
    kernel<norm>("norm"),
    kernel<normBackward>("normBackward"),
    kernel<tokenShift>("tokenShift"),
    kernel<tokenShiftBackward>("tokenShiftBackward"),
    kernel<shiftDelta>("shiftDelta"),
    kernel<shiftDeltaBackward>("shiftDeltaBackward"),
    kernel<addMul>("addMul"),
    kernel<addMulBackward>("addMulBackward"),
    kernel<activate>("activate"),
    kernel<activateBackward>("activateBackward"),
    kernel<addScaled>("addScaled"),
    kernel<mulRows>("mul"),
    kernel<mulBackward>("mulBackward"),
    kernel<lerp>("lerp"),
    kernel<lerpBackward>("lerpBackward"),
    kernel<l2NormHeads>("l2NormHeads"),
    kernel<l2NormHeadsBackward>("l2NormHeadsBackward"),
    kernel<scaleKey>("scaleKey"),
    kernel<scaleKeyBackward>("scaleKeyBackward"),
    kernel<addBonus>("addBonus"),
    kernel<addBonusBackward>("addBonusBackward"),
    kernel<wkv4>("wkv4"),
    kernel<wkv4Backward>("wkv4Backward"),
    kernel<wkv6>("wkv6"),
    kernel<wkv6Backward>("wkv6Backward"),
    kernel<wkv7>("wkv7"),
    kernel<wkv7Backward>("wkv7Backward"),
    kernel<crossEntropy>("crossEntropy"),
    kernel<sumOfSquares>("sumOfSquares"),
    kernel<adamw>("adamw"),
};

/** Floats of room that any kernel with a last argument `room` needs, but for wkv4Backward. */
constexpr size_t ROOM_FLOATS = (sizeof(GemmScratch) > sizeof(WkvScratch) ? sizeof(GemmScratch) : sizeof(WkvScratch)) / 4 + 16;
