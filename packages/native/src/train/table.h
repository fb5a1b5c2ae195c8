// The table of the kernels of training, by the names that JavaScript calls them by.

constexpr TrainKernel TRAIN_TABLE[] = {
    kernel<gemm>("gemm"),
};
