"""Makes packages/rwkv/src/core/testdata/blocks.json: seeded blocks of every quantised type, and their values.

The values are computed here from the published formulas (element by element, independently of the library), in f32
arithmetic as ggml does. Where the `gguf` package is installed, its own dequantisers must agree bit for bit.
Run from the repository's root: python3 scripts/make-block-vectors.py
"""

import base64
import json
import pathlib

import numpy as np

SEED = 20240607
TARGET = pathlib.Path("packages/rwkv/src/core/testdata/blocks.json")
f32 = np.float32


def half(block, at):
    return f32(block[at : at + 2].view("<f2")[0])


def lo(x):
    return int(x) & 15


def hi(x):
    return int(x) >> 4


def q4_0(b):
    d, qs, y = half(b, 0), b[2:18], np.zeros(32, f32)
    for j in range(16):
        y[j] = f32(lo(qs[j]) - 8) * d
        y[j + 16] = f32(hi(qs[j]) - 8) * d
    return y


def q4_1(b):
    d, m, qs, y = half(b, 0), half(b, 2), b[4:20], np.zeros(32, f32)
    for j in range(16):
        y[j] = f32(lo(qs[j])) * d + m
        y[j + 16] = f32(hi(qs[j])) * d + m
    return y


def five_bits(qh, qs):
    word = int.from_bytes(qh.tobytes(), "little")
    q = [0] * 32
    for j in range(16):
        q[j] = lo(qs[j]) + 16 * (word >> j & 1)
        q[j + 16] = hi(qs[j]) + 16 * (word >> (j + 16) & 1)
    return q


def q5_0(b):
    d = half(b, 0)
    return np.array([f32(q - 16) * d for q in five_bits(b[2:6], b[6:22])], f32)


def q5_1(b):
    d, m = half(b, 0), half(b, 2)
    return np.array([f32(q) * d + m for q in five_bits(b[4:8], b[8:24])], f32)


def q8_0(b):
    d = half(b, 0)
    return np.array([f32(q) * d for q in b[2:34].view("i1")], f32)


def k4_scales(s):
    s, sc, mn = [int(x) for x in s], [0] * 8, [0] * 8
    for j in range(8):
        if j < 4:
            sc[j], mn[j] = s[j] & 63, s[j + 4] & 63
        else:
            sc[j] = (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4)
            mn[j] = (s[j + 4] >> 4) | ((s[j] >> 6) << 4)
    return sc, mn


def q4_k(b):
    d, dmin, qs, y = half(b, 0), half(b, 2), b[16:144], np.zeros(256, f32)
    sc, mn = k4_scales(b[4:16])
    for c in range(4):
        for l in range(32):
            x = qs[32 * c + l]
            y[64 * c + l] = d * f32(sc[2 * c]) * f32(lo(x)) - dmin * f32(mn[2 * c])
            y[64 * c + 32 + l] = d * f32(sc[2 * c + 1]) * f32(hi(x)) - dmin * f32(mn[2 * c + 1])
    return y


def q5_k(b):
    d, dmin, qh, qs, y = half(b, 0), half(b, 2), b[16:48], b[48:176], np.zeros(256, f32)
    sc, mn = k4_scales(b[4:16])
    for c in range(4):
        for l in range(32):
            x, h = qs[32 * c + l], int(qh[l])
            low = lo(x) + (16 if h >> (2 * c) & 1 else 0)
            high = hi(x) + (16 if h >> (2 * c + 1) & 1 else 0)
            y[64 * c + l] = d * f32(sc[2 * c]) * f32(low) - dmin * f32(mn[2 * c])
            y[64 * c + 32 + l] = d * f32(sc[2 * c + 1]) * f32(high) - dmin * f32(mn[2 * c + 1])
    return y


def q6_k(b):
    y, d = np.zeros(256, f32), half(b, 208)
    for h in range(2):
        ql = [int(x) for x in b[64 * h : 64 * h + 64]]
        qh = [int(x) for x in b[128 + 32 * h : 160 + 32 * h]]
        sc = [int(x) for x in b[192 + 8 * h : 200 + 8 * h].view("i1")]
        base = 128 * h
        for l in range(32):
            t = l // 16
            q1 = (ql[l] & 15 | (qh[l] >> 0 & 3) << 4) - 32
            q2 = (ql[l + 32] & 15 | (qh[l] >> 2 & 3) << 4) - 32
            q3 = (ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) - 32
            q4 = (ql[l + 32] >> 4 | (qh[l] >> 6 & 3) << 4) - 32
            y[base + l] = d * f32(sc[t]) * f32(q1)
            y[base + l + 32] = d * f32(sc[t + 2]) * f32(q2)
            y[base + l + 64] = d * f32(sc[t + 4]) * f32(q3)
            y[base + l + 96] = d * f32(sc[t + 6]) * f32(q4)
    return y


def q2_k(b):
    y, d, dmin = np.zeros(256, f32), half(b, 80), half(b, 82)
    for h in range(2):
        qs = b[16 + 32 * h : 48 + 32 * h]
        for k in range(4):
            for t in range(2):
                s = int(b[8 * h + 2 * k + t])
                for l in range(16):
                    q = int(qs[16 * t + l]) >> (2 * k) & 3
                    y[128 * h + 32 * k + 16 * t + l] = d * f32(s & 15) * f32(q) - dmin * f32(s >> 4)
    return y


def q3_k(b):
    y, d, p, scales = np.zeros(256, f32), half(b, 108), [int(x) for x in b[96:108]], [0] * 16
    for i in range(4):
        scales[i] = (p[i] & 15) | ((p[8 + i] & 3) << 4)
        scales[4 + i] = (p[4 + i] & 15) | (((p[8 + i] >> 2) & 3) << 4)
        scales[8 + i] = (p[i] >> 4) | (((p[8 + i] >> 4) & 3) << 4)
        scales[12 + i] = (p[4 + i] >> 4) | (((p[8 + i] >> 6) & 3) << 4)
    for h in range(2):
        for k in range(4):
            for t in range(2):
                for l in range(16):
                    q = int(b[32 + 32 * h + 16 * t + l]) >> (2 * k) & 3
                    q -= 0 if int(b[16 * t + l]) >> (4 * h + k) & 1 else 4
                    y[128 * h + 32 * k + 16 * t + l] = d * f32(scales[8 * h + 2 * k + t] - 32) * f32(q)
    return y


def q8(b):
    return half(b, 0) * b[2:66].view(np.int8).astype(f32)


def q4(b):
    q = np.concatenate([b[4:36] & 15, b[4:36] >> 4]).astype(f32)
    return half(b, 0) * q + half(b, 2)


NF4_LEVELS = np.array([-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127], f32)


SF4_LEVELS = np.array([-127, -80, -58, -42, -30, -19, -10, 0, 8, 17, 26, 36, 48, 62, 83, 127], f32)


def levels(table, b):
    return half(b, 0) * table[np.concatenate([b[2:34] & 15, b[2:34] >> 4])]


def nf4(b):
    return levels(NF4_LEVELS, b)


def sf4(b):
    return levels(SF4_LEVELS, b)


# name, decoder, bytes of a block, addresses of the f16 fields
TYPES = [
    ("q4_0", q4_0, 18, [0]),
    ("q4_1", q4_1, 20, [0, 2]),
    ("q5_0", q5_0, 22, [0]),
    ("q5_1", q5_1, 24, [0, 2]),
    ("q8_0", q8_0, 34, [0]),
    ("q2_k", q2_k, 84, [80, 82]),
    ("q3_k", q3_k, 110, [108]),
    ("q4_k", q4_k, 144, [0, 2]),
    ("q5_k", q5_k, 176, [0, 2]),
    ("q6_k", q6_k, 210, [208]),
    ("q8", q8, 66, [0]),
    ("q4", q4, 36, [0, 2]),
    ("nf4", nf4, 34, [0]),
    ("sf4", sf4, 34, [0]),
]


def check_with_gguf_package(name, blocks, values):
    try:
        import gguf
    except ImportError:
        return False
    kind = getattr(gguf.GGMLQuantizationType, name.upper(), None)
    if kind is None:
        return False
    theirs = gguf.quants.dequantize(blocks.reshape(-1), kind)
    assert np.array_equal(theirs.view(np.uint32), values.view(np.uint32)), name
    return True


def q8_0_by_reference_rule(values):
    out = bytearray()
    for block in values.reshape(-1, 32):
        d = f32(np.abs(block).max()) / f32(127)
        inverse = f32(0) if d == 0 else f32(1) / d
        scaled = (block * inverse).astype(np.float64)
        quants = np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)
        out += np.float16(d).tobytes() + quants.astype(np.int8).tobytes()
    return bytes(out)


def base64_of(array):
    return base64.b64encode(array.tobytes()).decode()


def main():
    rng = np.random.default_rng(SEED)
    decoded = {}
    for name, decode, n_bytes, halves in TYPES:
        blocks = rng.integers(0, 256, (2, n_bytes), dtype=np.uint8)
        # A typical scale in the first block; in the second a subnormal f16, or a negative one for the minimum.
        for place, at in enumerate(halves):
            typical = [f32(0.0123), f32(0.0517)][place]
            extreme = [f32(2.0**-20 * 1.1), f32(-7.25)][place]
            blocks[0, at : at + 2] = np.frombuffer(np.float16(typical).tobytes(), np.uint8)
            blocks[1, at : at + 2] = np.frombuffer(np.float16(extreme).tobytes(), np.uint8)
        values = np.concatenate([decode(block) for block in blocks])
        checked = check_with_gguf_package(name, blocks, values)
        print(name, "agrees with the gguf package" if checked else "not cross-checked: gguf is not installed")
        decoded[name] = {"bytes": base64_of(blocks), "values": base64_of(values)}

    values = rng.standard_normal(5 * 32).astype(f32)
    values[32:64] *= f32(1e-3)
    values[64:96] = 0
    values[96:128] = np.arange(32) - f32(15.5)  # ties: with d = 1 exactly these lie half way
    values[127] = 127
    values[128:160] *= f32(1e-7)  # d is 0 as f16, the quants are not
    encoded = np.frombuffer(q8_0_by_reference_rule(values), np.uint8)
    try:
        import gguf

        theirs = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        assert theirs.tobytes() == encoded.tobytes(), "q8_0 quantiser"
    except ImportError:
        pass
    result = {
        "about": f"Made by scripts/make-block-vectors.py, seed {SEED}; base64 of bytes and of little-endian f32.",
        "decode": decoded,
        "encode": {"q8_0": {"values": base64_of(values), "bytes": base64_of(encoded)}},
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
