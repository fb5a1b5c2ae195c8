// The kernels of training as functions of JavaScript.
//
//   trainKernels(kernelSet): {
//     roomElements, wkv4RoomElements: number     see TrainKernels
//     signatures: { [kernel]: string }           see TrainKernel
//     calls: { [kernel]: (...arguments) => number | undefined }
//   } | null
//
// A call runs on the calling thread, which may be a worker, and takes typed arrays over ArrayBuffer or SharedArrayBuffer.
#pragma once

#define NAPI_VERSION 8
#include <node_api.h>

namespace rwkv {

napi_value trainKernelsFor(napi_env env, napi_callback_info info);

}  // namespace rwkv
