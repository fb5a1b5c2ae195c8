// Makes a table entry of a plain function: its signature for the addon, and a call that takes the arguments from it.

template <typename T>
constexpr bool IS_POINTER = false;
template <typename T>
constexpr bool IS_POINTER<T*> = true;
template <typename T>
constexpr char KIND = IS_POINTER<T> ? 'p' : 'n';
template <>
constexpr char KIND<float* const*> = 'l';

template <typename T>
INLINE T argumentOf(const TrainArgument& argument) {
  if constexpr (IS_POINTER<T>) {
    return static_cast<T>(argument.data);
  } else {
    return static_cast<T>(argument.number);
  }
}

template <size_t... I>
struct Indices {};
template <size_t N, size_t... I>
struct IndicesTo : IndicesTo<N - 1, N - 1, I...> {};
template <size_t... I>
struct IndicesTo<0, I...> {
  using Type = Indices<I...>;
};

template <auto KERNEL>
struct Entry;

template <typename R, typename... T, R (*KERNEL)(T...)>
struct Entry<KERNEL> {
  static_assert(sizeof...(T) <= MAX_TRAIN_ARGUMENTS);
  static constexpr char SIGNATURE[] = {KIND<T>..., '\0'};

  template <size_t... I>
  INLINE double callWith(const TrainArgument* arguments, Indices<I...>) {
    if constexpr (__is_same(R, void)) {
      KERNEL(argumentOf<T>(arguments[I])...);
      return 0;
    } else {
      return KERNEL(argumentOf<T>(arguments[I])...);
    }
  }
  static double call(const TrainArgument* arguments) {
    return callWith(arguments, typename IndicesTo<sizeof...(T)>::Type{});
  }
};

template <auto KERNEL>
constexpr TrainKernel kernel(const char* name) {
  return {name, Entry<KERNEL>::SIGNATURE, Entry<KERNEL>::call};
}
