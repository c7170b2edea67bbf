// The table of functions that exist once per instruction set (ISA), and the choice among them at run time.
//
// ops_avx2.cpp, ops_avx512.cpp and ops_neon.cpp are compiled with flags of their own and include the shared
// algorithms (*_inl.h) in a namespace of their own; ops_scalar.cpp is the slow twin that they are tested against.
// This header and all *_inl.h must hold no inline function with external linkage and use no standard library
// template: the linker could keep the copy compiled for AVX-512 and hand it to a machine without.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string_view>
#include <vector>

namespace slt {

enum class Generator : uint32_t { philox4x32, threefry4x32 };

// One plane of random bits (docs/format.md, section 1): all of the counter but the block.
struct Plane {
    Generator generator;
    uint32_t rounds;
    uint64_t seed;
    uint32_t stream, layer, generation, plane;
};

// The freeze pattern of a layer: `bits` planes of stream 1, thresholds in 2^bits.
struct FreezePattern {
    Generator generator;
    uint32_t rounds;
    uint64_t seed;
    uint32_t layer, bits, prune, lock;
};

enum class TileFault : int { none, start_state, words_short, final_state, words_left, pad_bits };

// Bytes that must be readable (whatever they are) behind a payload given to decode_static: vector loads
// may touch them, but no word beyond the tile's own is ever used.
constexpr size_t kPayloadPadding = 64;
// Words that must be readable behind the mask bits given to deposit.
constexpr size_t kMaskPadding = 3;

struct Ops {
    const char* name;

    // Words 4 * block0 ... of the plane, `blocks` * 4 of them, in index order.
    void (*plane)(const Plane& plane, uint32_t block0, size_t blocks, uint32_t* out);

    // Free and locked bits of the positions of `blocks` blocks (2 words each), padding not treated.
    void (*freeze)(const FreezePattern& pattern, uint32_t block0, size_t blocks, uint64_t* free,
                   uint64_t* locked);

    // Replaces each set bit of free[0..words) by the next mask bit, starting at bit `start` of mask; clear
    // bits stay clear. Returns the bit behind the last one read. Reads up to kMaskPadding words further.
    uint64_t (*deposit)(uint64_t* free, size_t words, const uint32_t* mask, uint64_t start);

    // Decodes a static tile (docs/format.md, section 5) of `words` 16-bit words that covers the ordinals
    // [first, last), first < last; f = 16 * density. Writes the words first div 32 ... (last - 1) div 32, bits
    // outside the tile zero. Any payload is safe; what is in out after a fault is of no use.
    TileFault (*decode_static)(const uint8_t* payload, size_t words, uint64_t first, uint64_t last,
                               uint32_t f, uint32_t* out);

    // ---- kernels of the runtime (conv_inl.h and others): add function pointers below this line ----
};

// The table chosen for this process: the best the machine runs, or the one that SLT_ISA names (an unknown or
// unsupported name: std::runtime_error that lists the available ones).
const Ops& ops();
// The table of that name, "" for the chosen one; std::invalid_argument where this machine cannot run it.
const Ops& ops(std::string_view name);
// All tables this machine can run, scalar first, best last.
const std::vector<const Ops*>& available_ops();
// What the machine has, for `slt-inspect --machine`.
std::vector<const char*> cpu_features();
const char* cpu_architecture();
// Why ops() is what it is.
const char* choice_reason();

extern const Ops scalar_ops;
#if defined(__x86_64__)
extern const Ops avx2_ops, avx512_ops;
#elif defined(__aarch64__)
extern const Ops neon_ops;
#endif

}  // namespace slt
