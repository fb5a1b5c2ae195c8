// The addon's functions for JavaScript, in plain Node-API. core/native.ts of rwkv describes them.
//
//   layout: string                                    the constants of abi.ts that it was built for
//   kernelSets: string[]                              usable on this processor, best first
//   createPool(kernelSet, nThreads): pool
//   createMemory(): memory | null
//   memoryBuffer(memory, byteLength): ArrayBuffer     its first bytes; the buffer given before is detached
//   placeWeight(memory, byteLength): { address, buffer } | null
//   mapFile(memory, fileDescriptor, byteLength): number | null
//   areFinite(memory, address, n): boolean
//   areFilesUnchanged(memory): boolean
//   sealWeight(pool, memory, buffer, address, dtype, nOut, nIn, rowBytes): undefined
//   releaseMemory(memory): undefined
//   step(pool, memory, context, nRecords): Promise<undefined>
//   readBandwidth(nThreads, byteLength, nReads): number   bytes per second; waits for the end
//   trainKernels(kernelSet): ...                      train_calls.h
//
// Pools and memories go with their handles; buffers and steps in progress keep a memory alive. `releaseMemory` does not
// wait for that: it detaches the memory's buffer and gives the pages back as soon as no step works on them.

#define NAPI_VERSION 8
#include <node_api.h>

#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "abi.h"
#include "bandwidth.h"
#include "kernel_set.h"
#include "memory.h"
#include "pool.h"
#include "train_calls.h"

namespace rwkv {
namespace {

using MemoryHandle = std::shared_ptr<Memory>;

/** A memory and the buffer that JavaScript sees of it. */
struct MemoryObject {
  MemoryHandle memory;
  napi_ref buffer = nullptr;
  uint32_t nSteps = 0;
  bool isReleased = false;
};

/**
 * Held by the handle of JavaScript and by the function through which the end of a step gets there. Either may go first:
 * handles when they are collected, the function when the environment ends. The threads end with the first.
 */
struct PoolObject {
  std::unique_ptr<Pool> pool;
  napi_threadsafe_function completion = nullptr;
  uint32_t nInProgress = 0;
};

using PoolHandle = std::shared_ptr<PoolObject>;

struct Pending {
  PoolHandle owner;
  napi_deferred deferred;
  MemoryObject* memory;
  /** Keep the handles from being collected. */
  napi_ref poolHandle;
  napi_ref memoryHandle;
};

napi_value undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}

napi_value null(napi_env env) {
  napi_value value;
  napi_get_null(env, &value);
  return value;
}

/** The arguments of a call; numbers and handles are taken as they are: only the engine calls these functions. */
template <size_t N>
struct Arguments {
  napi_value values[N];
  Arguments(napi_env env, napi_callback_info info) {
    size_t n = N;
    napi_get_cb_info(env, info, &n, values, nullptr, nullptr);
  }
};

template <typename T>
T* handle(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_get_value_external(env, value, &data);
  return static_cast<T*>(data);
}

size_t number(napi_env env, napi_value value) {
  double result = 0;
  napi_get_value_double(env, value, &result);
  return static_cast<size_t>(result);
}

napi_value string(napi_env env, const char* text) {
  napi_value value;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  return value;
}

napi_value bufferOf(napi_env env, const MemoryHandle& memory, size_t offset, size_t byteLength) {
  napi_value buffer;
  const auto release = [](napi_env, void*, void* keptAlive) { delete static_cast<MemoryHandle*>(keptAlive); };
  auto* keptAlive = new MemoryHandle(memory);
  if (napi_create_external_arraybuffer(env, memory->base() + offset, byteLength, release, keptAlive, &buffer) != napi_ok) {
    delete keptAlive;
    napi_throw_error(env, nullptr, "this runtime allows no external ArrayBuffer");
    return nullptr;
  }
  return buffer;
}

napi_value createMemory(napi_env env, napi_callback_info) {
  Memory* memory = Memory::reserve();
  if (memory == nullptr) return null(env);
  napi_value value;
  const auto release = [](napi_env finalEnv, void* data, void*) {
    auto* object = static_cast<MemoryObject*>(data);
    if (object->buffer != nullptr) napi_delete_reference(finalEnv, object->buffer);
    delete object;
  };
  napi_create_external(env, new MemoryObject{MemoryHandle(memory)}, release, nullptr, &value);
  return value;
}

void detachBuffer(napi_env env, MemoryObject& object) {
  if (object.buffer == nullptr) return;
  napi_value buffer;
  napi_get_reference_value(env, object.buffer, &buffer);
  if (buffer != nullptr) napi_detach_arraybuffer(env, buffer);
  napi_delete_reference(env, object.buffer);
  object.buffer = nullptr;
}

napi_value releaseMemory(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  auto* object = handle<MemoryObject>(env, arguments.values[0]);
  detachBuffer(env, *object);
  object->isReleased = true;
  if (object->nSteps == 0) object->memory->release();
  return undefined(env);
}

napi_value memoryBuffer(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  auto* object = handle<MemoryObject>(env, arguments.values[0]);
  detachBuffer(env, *object);
  napi_value buffer = bufferOf(env, object->memory, 0, number(env, arguments.values[1]));
  if (buffer != nullptr) napi_create_reference(env, buffer, 0, &object->buffer);
  return buffer;
}

napi_value placeWeight(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  const auto* object = handle<MemoryObject>(env, arguments.values[0]);
  const size_t byteLength = number(env, arguments.values[1]);
  const size_t offset = object->memory->placeWeight(byteLength);
  if (offset == 0) return null(env);
  napi_value buffer = bufferOf(env, object->memory, offset, byteLength);
  if (buffer == nullptr) return nullptr;
  napi_value result;
  napi_value address;
  napi_create_object(env, &result);
  napi_create_double(env, static_cast<double>(offset), &address);
  napi_set_named_property(env, result, "address", address);
  napi_set_named_property(env, result, "buffer", buffer);
  return result;
}

napi_value mapFile(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  const auto* object = handle<MemoryObject>(env, arguments.values[0]);
  const int file = static_cast<int>(number(env, arguments.values[1]));
  const size_t offset = object->memory->mapFile(file, number(env, arguments.values[2]));
  if (offset == 0) return null(env);
  napi_value address;
  napi_create_double(env, static_cast<double>(offset), &address);
  return address;
}

napi_value areFinite(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  const auto* object = handle<MemoryObject>(env, arguments.values[0]);
  const char* numbers = object->memory->base() + number(env, arguments.values[1]);
  const size_t n = number(env, arguments.values[2]);
  bool areFinite = true;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    std::memcpy(&bits, numbers + 4 * i, sizeof bits);
    areFinite &= (bits & 0x7f800000) != 0x7f800000;
  }
  napi_value value;
  napi_get_boolean(env, areFinite, &value);
  return value;
}

napi_value areFilesUnchanged(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  napi_value value;
  napi_get_boolean(env, handle<MemoryObject>(env, arguments.values[0])->memory->areFilesUnchanged(), &value);
  return value;
}

napi_value sealWeight(napi_env env, napi_callback_info info) {
  const Arguments<9> arguments(env, info);
  const PoolHandle& pool = *handle<PoolHandle>(env, arguments.values[0]);
  const auto* object = handle<MemoryObject>(env, arguments.values[1]);
  napi_detach_arraybuffer(env, arguments.values[2]);
  const auto at = [&](size_t i) { return number(env, arguments.values[i]); };
  const auto packTo = static_cast<uint32_t>(at(4));
  if (packTo != abi::LAYOUT_ROWS) {
    const auto dtype = static_cast<uint32_t>(at(5));
    pool->pool->kernels()->pack(object->memory->base() + at(3), packTo, dtype, at(6), at(7), at(8));
  }
  return undefined(env);
}

/** On the JavaScript thread, after a step. */
void settle(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Step> step(static_cast<Step*>(data));
  std::unique_ptr<Pending> pending(static_cast<Pending*>(step->data));
  if (env == nullptr) return;
  napi_resolve_deferred(env, pending->deferred, undefined(env));
  if (--pending->owner->nInProgress == 0) napi_unref_threadsafe_function(env, pending->owner->completion);
  if (--pending->memory->nSteps == 0 && pending->memory->isReleased) pending->memory->memory->release();
  napi_delete_reference(env, pending->poolHandle);
  napi_delete_reference(env, pending->memoryHandle);
}

napi_value createPool(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  char name[16] = "";
  napi_get_value_string_utf8(env, arguments.values[0], name, sizeof name, nullptr);
  const KernelSet* kernels = kernelSet(name);
  if (kernels == nullptr) {
    napi_throw_error(env, nullptr, "this processor lacks the instructions of that kernel set");
    return nullptr;
  }
  const auto object = std::make_shared<PoolObject>();
  const auto forget = [](napi_env, void* data, void*) {
    auto* ended = static_cast<PoolHandle*>(data);
    (*ended)->pool.reset();
    (*ended)->completion = nullptr;
    delete ended;
  };
  napi_create_threadsafe_function(env, nullptr, nullptr, string(env, "rwkv step"), 0, 1, new PoolHandle(object), forget,
                                  nullptr, settle, &object->completion);
  // Idle threads do not keep the process alive; a step in progress does.
  napi_unref_threadsafe_function(env, object->completion);
  object->pool = std::make_unique<Pool>(kernels, static_cast<uint32_t>(number(env, arguments.values[1])));
  napi_value value;
  const auto release = [](napi_env, void* data, void*) {
    auto* collected = static_cast<PoolHandle*>(data);
    (*collected)->pool.reset();
    if ((*collected)->completion != nullptr) {
      napi_release_threadsafe_function((*collected)->completion, napi_tsfn_abort);
    }
    delete collected;
  };
  napi_create_external(env, new PoolHandle(object), release, nullptr, &value);
  return value;
}

/** On the thread that finished the step. */
void announce(Step* step) {
  napi_call_threadsafe_function(static_cast<Pending*>(step->data)->owner->completion, step, napi_tsfn_nonblocking);
}

napi_value step(napi_env env, napi_callback_info info) {
  const Arguments<4> arguments(env, info);
  const PoolHandle& object = *handle<PoolHandle>(env, arguments.values[0]);
  auto* memory = handle<MemoryObject>(env, arguments.values[1]);
  auto* pending = new Pending{object, nullptr, memory, nullptr, nullptr};
  napi_value promise;
  napi_create_promise(env, &pending->deferred, &promise);
  napi_create_reference(env, arguments.values[0], 1, &pending->poolHandle);
  napi_create_reference(env, arguments.values[1], 1, &pending->memoryHandle);
  memory->nSteps++;
  if (object->nInProgress++ == 0) napi_ref_threadsafe_function(env, object->completion);
  object->pool->submit(new Step{memory->memory,
                                static_cast<uint32_t>(number(env, arguments.values[2])),
                                static_cast<uint32_t>(number(env, arguments.values[3])), announce, pending});
  return promise;
}

napi_value measureBandwidth(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  const auto at = [&](size_t i) { return number(env, arguments.values[i]); };
  napi_value value;
  napi_create_double(env, readBandwidth(static_cast<uint32_t>(at(0)), at(1), static_cast<uint32_t>(at(2))), &value);
  return value;
}

napi_value initialize(napi_env env, napi_value exports) {
  const auto add = [&](const char* name, napi_callback callback) {
    napi_value function;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
    napi_set_named_property(env, exports, name, function);
  };
  add("createPool", createPool);
  add("createMemory", createMemory);
  add("memoryBuffer", memoryBuffer);
  add("placeWeight", placeWeight);
  add("mapFile", mapFile);
  add("areFinite", areFinite);
  add("areFilesUnchanged", areFilesUnchanged);
  add("sealWeight", sealWeight);
  add("releaseMemory", releaseMemory);
  add("step", step);
  add("readBandwidth", measureBandwidth);
  add("trainKernels", trainKernelsFor);
  napi_set_named_property(env, exports, "layout", string(env, abi::LAYOUT));

  const char* names[2];
  const size_t nNames = usableKernelSets(names);
  napi_value kernelSets;
  napi_create_array(env, &kernelSets);
  for (size_t i = 0; i < nNames; i++) napi_set_element(env, kernelSets, static_cast<uint32_t>(i), string(env, names[i]));
  napi_set_named_property(env, exports, "kernelSets", kernelSets);
  return exports;
}

}  // namespace
}  // namespace rwkv

extern "C" {
NAPI_MODULE_EXPORT int32_t node_api_module_get_api_version_v1(void) { return NAPI_VERSION; }
NAPI_MODULE_EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  return rwkv::initialize(env, exports);
}
}
