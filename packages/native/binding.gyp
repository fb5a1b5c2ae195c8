{
  # Each kernel set is a library of its own, since only its own code may use its instructions.
  "variables": {
    "common": ["-std=gnu++20", "-O3", "-fno-exceptions", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra",
      # GCC warns of the undefined registers in its own headers of intrinsics.
      "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
  },
  "target_defaults": {
    "include_dirs": ["src", "generated"],
    "cflags_cc!": ["-std=gnu++17", "-fno-exceptions"],
    "cflags": ["-fPIC", "-fvisibility=hidden"],
    "cflags_cc": ["<@(common)"],
    "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(common)"]},
  },
  "targets": [
    {
      "target_name": "rwkv_native",
      "sources": ["src/addon.cc", "src/bandwidth.cc", "src/memory.cc", "src/pool.cc", "src/kernel_sets.cc",
        "src/train_calls.cc"],
      "conditions": [
        ["target_arch=='x64'", {"dependencies": ["kernels_avx2", "kernels_avx512"], "defines": ["RWKV_X64"]}],
        ["target_arch=='arm64'", {"dependencies": ["kernels_neon", "kernels_neon_dot"], "defines": ["RWKV_ARM64"]}],
      ],
    },
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "kernels_avx2",
          "type": "static_library",
          "sources": ["src/kernels_avx2.cc", "src/train_avx2.cc"],
          "cflags_cc": ["-mavx2", "-mfma", "-mf16c"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["-mavx2", "-mfma", "-mf16c"]},
        },
        {
          "target_name": "kernels_avx512",
          "type": "static_library",
          "sources": ["src/kernels_avx512.cc", "src/train_avx512.cc"],
          "cflags_cc": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=512"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]},
        },
      ],
    }],
    ["target_arch=='arm64'", {
      "targets": [
        {
          "target_name": "kernels_neon",
          "type": "static_library",
          "sources": ["src/kernels_neon.cc", "src/train_neon.cc"],
        },
        {
          "target_name": "kernels_neon_dot",
          "type": "static_library",
          "sources": ["src/kernels_neon_dot.cc"],
          "cflags_cc": ["-march=armv8.2-a+dotprod"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["-march=armv8.2-a+dotprod"]},
        },
      ],
    }],
  ],
}
