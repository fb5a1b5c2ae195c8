// Takes the arguments of a kernel of training from JavaScript by its signature.

#include "train_calls.h"


#include "train_kernels.h"

namespace rwkv {
namespace {

/** Null for null. */
void* elementsOf(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_get_typedarray_info(env, value, nullptr, nullptr, &data, nullptr, nullptr);
  return data;
}

napi_value callKernel(napi_env env, napi_callback_info info) {
  napi_value values[MAX_TRAIN_ARGUMENTS];
  size_t nValues = MAX_TRAIN_ARGUMENTS;
  void* data = nullptr;
  napi_get_cb_info(env, info, &nValues, values, nullptr, &data);
  const auto* kernel = static_cast<const TrainKernel*>(data);
  TrainArgument arguments[MAX_TRAIN_ARGUMENTS];
  // No signature has more than four lists.
  void* lists[4][MAX_TRAIN_LIST];
  size_t nLists = 0;
  for (size_t i = 0; kernel->signature[i] != '\0'; i++) {
    if (kernel->signature[i] == 'n') {
      napi_get_value_double(env, values[i], &arguments[i].number);
    } else if (kernel->signature[i] == 'p') {
      arguments[i].data = elementsOf(env, values[i]);
    } else {
      void** list = lists[nLists++];
      uint32_t n = 0;
      napi_get_array_length(env, values[i], &n);
      for (uint32_t item = 0; item < n && item < MAX_TRAIN_LIST; item++) {
        napi_value value;
        napi_get_element(env, values[i], item, &value);
        list[item] = elementsOf(env, value);
      }
      arguments[i].data = list;
    }
  }
  const double result = kernel->call(arguments);
  napi_value value;
  napi_create_double(env, result, &value);
  return value;
}

void setNumber(napi_env env, napi_value object, const char* name, size_t number) {
  napi_value value;
  napi_create_double(env, static_cast<double>(number), &value);
  napi_set_named_property(env, object, name, value);
}

}  // namespace

napi_value trainKernelsFor(napi_env env, napi_callback_info info) {
  napi_value result;
  napi_value name;
  size_t n = 1;
  napi_get_cb_info(env, info, &n, &name, nullptr, nullptr);
  char text[16] = "";
  napi_get_value_string_utf8(env, name, text, sizeof text, nullptr);
  const TrainKernels* set = trainKernels(text);
  if (set == nullptr) {
    napi_get_null(env, &result);
    return result;
  }
  napi_value calls;
  napi_value signatures;
  napi_create_object(env, &result);
  napi_create_object(env, &calls);
  napi_create_object(env, &signatures);
  for (size_t i = 0; i < set->nKernels; i++) {
    const TrainKernel& kernel = set->kernels[i];
    napi_value call;
    napi_value signature;
    napi_create_function(env, kernel.name, NAPI_AUTO_LENGTH, callKernel, const_cast<TrainKernel*>(&kernel), &call);
    napi_set_named_property(env, calls, kernel.name, call);
    napi_create_string_utf8(env, kernel.signature, NAPI_AUTO_LENGTH, &signature);
    napi_set_named_property(env, signatures, kernel.name, signature);
  }
  setNumber(env, result, "roomElements", set->roomElements);
  setNumber(env, result, "wkv4RoomElements", set->wkv4RoomElements);
  napi_set_named_property(env, result, "calls", calls);
  napi_set_named_property(env, result, "signatures", signatures);
  return result;
}

}  // namespace rwkv
