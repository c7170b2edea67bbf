// Planes of random bits and the freeze pattern, many blocks at a time. Included by each ops_*.cpp
// inside a namespace of its own, after the primitives kBytes, u32v, u64v (vectors of kBytes bytes)
// and
//   u64v multiply_low(u64v a, uint32_t b)   64-bit products of the low halves of a's lanes with b
//   u64v even_lanes(u64v a, u64v b)   a0 b0 a2 b2 ...; odd_lanes: a1 b1 a3 b3 ...
// Both generators give the same form, Group, whose vectors hold 64 bits per block: whatever is
// computed bit by bit (the comparisons of the freeze pattern) runs on it, and bits are put into
// index order only when stored.

constexpr size_t kLanes = kBytes / 8;
constexpr int kPairs = 4;
constexpr size_t kGroupBlocks = kPairs * kLanes;

// low[i], high[i] lane j: bits 0 to 63 and 64 to 127 of block i * kLanes + lane_numbers()[j] of the
// group.
struct Group {
    u64v low[kPairs], high[kPairs];
};

struct Address {
    uint32_t key[4];
    uint32_t c1, c2, c3;
};

inline Address address_of(uint64_t seed, uint32_t stream, uint32_t layer, uint32_t generation,
                          uint32_t plane) {
    return {{uint32_t(seed), uint32_t(seed >> 32), 0, 0}, plane + 256 * generation, layer, stream};
}

// Even lanes are the first half of a vector's blocks, odd ones the second.
inline u64v lane_numbers() {
    u64v v;
    for (size_t i = 0; i < kLanes; ++i) v[i] = i / 2 + i % 2 * (kLanes / 2);
    return v;
}

constexpr uint32_t kPhiloxFactors[2] = {0xD2511F53u, 0xCD9E8D57u};
constexpr uint32_t kPhiloxSteps[2] = {0x9E3779B9u, 0xBB67AE85u};

// The rounds kFirst ... kRounds - 1 on N vectors of counters, one counter per 64-bit lane; upper
// halves of lanes are garbage throughout.
template <int kFirst, int kRounds, int N>
inline void philox_rounds(u64v (&c0)[N], u64v (&c1)[N], u64v (&c2)[N], u64v (&c3)[N], uint32_t k0,
                          uint32_t k1) {
    k0 += kFirst * kPhiloxSteps[0], k1 += kFirst * kPhiloxSteps[1];
#pragma GCC unroll 10
    for (int round = kFirst; round < kRounds; ++round) {
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) {
            const u64v p0 = multiply_low(c0[i], kPhiloxFactors[0]),
                       p1 = multiply_low(c2[i], kPhiloxFactors[1]);
            // Of the three what is at hand goes first: the product comes late.
            c0[i] = (p1 >> 32) ^ (c1[i] ^ k0);
            c1[i] = p1;
            c2[i] = (p0 >> 32) ^ (c3[i] ^ k1);
            c3[i] = p0;
        }
        k0 += kPhiloxSteps[0], k1 += kPhiloxSteps[1];
    }
}

template <int kRounds>
struct Philox {
    // What becomes of the counters of a group's blocks in three rounds, as far as it depends on the
    // blocks, the layer and the stream alone: all planes share it. Plane and generation are in c1.
    struct Start {
        u64v c3_of_1[kPairs], c1_of_2[kPairs], c2_of_3[kPairs], c3_of_3[kPairs];
    };

    static inline void begin(const Address& at, uint32_t block0, Start& start) {
        const uint32_t *k = at.key, *step = kPhiloxSteps;
        const uint32_t c1_of_1 = at.c2 * kPhiloxFactors[1];
        // A carry into the upper half is garbage like the rest.
        const u64v lanes = lane_numbers() + block0;
#pragma GCC unroll 4
        for (int i = 0; i < kPairs; ++i) {
            const u64v a = multiply_low(lanes + i * kLanes, kPhiloxFactors[0]);
            const u64v b = multiply_low((a >> 32) ^ (at.c3 ^ k[1]), kPhiloxFactors[1]);
            const u64v c =
                multiply_low((b >> 32) ^ (c1_of_1 ^ (k[0] + step[0])), kPhiloxFactors[0]);
            start.c3_of_1[i] = a ^ (k[1] + step[1]);  // with the next round's keys
            start.c1_of_2[i] = b ^ (k[0] + 2 * step[0]);
            start.c2_of_3[i] = (c >> 32) ^ (k[1] + 2 * step[1]);
            start.c3_of_3[i] = c;
        }
    }

    // `at` differs in c1 alone from what begin() was given.
    static inline void generate(const Address& at, const Start& start, Group& group) {
        // c0 of round 1 is the same for all blocks, and with it half of round 2.
        const uint64_t p1_of_1 = uint64_t{at.c2} * kPhiloxFactors[1];
        const uint32_t c0_of_1 = uint32_t(p1_of_1 >> 32) ^ at.c1 ^ at.key[0];
        const uint64_t p0_of_2 = uint64_t{c0_of_1} * kPhiloxFactors[0];
        u64v c0[kPairs], c1[kPairs], c2[kPairs], c3[kPairs];
#pragma GCC unroll 4
        for (int i = 0; i < kPairs; ++i) {
            c1[i] = multiply_low(start.c3_of_1[i] ^ (p0_of_2 >> 32), kPhiloxFactors[1]);
            c0[i] = (c1[i] >> 32) ^ start.c1_of_2[i];
            c2[i] = start.c2_of_3[i] ^ uint32_t(p0_of_2);
            c3[i] = start.c3_of_3[i];
        }
        philox_rounds<3, kRounds>(c0, c1, c2, c3, at.key[0], at.key[1]);
#pragma GCC unroll 4
        for (int i = 0; i < kPairs; ++i) {
            group.low[i] = (c0[i] & 0xFFFFFFFFu) | (c1[i] << 32);
            group.high[i] = (c2[i] & 0xFFFFFFFFu) | (c3[i] << 32);
        }
    }

    static inline void words(const uint32_t c[4], const uint32_t key[4], uint32_t out[4]) {
        u64v x0[1] = {u64v{} + c[0]}, x1[1] = {u64v{} + c[1]}, x2[1] = {u64v{} + c[2]},
             x3[1] = {u64v{} + c[3]};
        philox_rounds<0, kRounds>(x0, x1, x2, x3, key[0], key[1]);
        const u64v* lanes[4] = {x0, x1, x2, x3};
        for (int i = 0; i < 4; ++i) out[i] = uint32_t((*lanes[i])[kLanes - 1]);
    }
};

constexpr uint32_t kRotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                       {6, 20},  {17, 11}, {25, 10}, {18, 20}};

// One round and, after every fourth, the key; x_w[i] is word w of the i-th vector of counters.
template <int kRound, int N>
inline void threefry_round(u32v (&x0)[N], u32v (&xa)[N], u32v (&x2)[N], u32v (&xb)[N]) {
    constexpr uint32_t a = kRotations[kRound % 8][0], b = kRotations[kRound % 8][1];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
        x0[i] += xa[i];
        xa[i] = ((xa[i] << a) | (xa[i] >> (32 - a))) ^ x0[i];
        x2[i] += xb[i];
        xb[i] = ((xb[i] << b) | (xb[i] >> (32 - b))) ^ x2[i];
    }
}

template <int kRounds, int N, int kRound = 0>
inline void threefry_rounds(u32v (&x0)[N], u32v (&x1)[N], u32v (&x2)[N], u32v (&x3)[N],
                            const uint32_t (&k)[5]) {
    if constexpr (kRound < kRounds) {
        if constexpr (kRound % 2 == 0) {
            threefry_round<kRound>(x0, x1, x2, x3);
        } else {
            threefry_round<kRound>(x0, x3, x2, x1);
        }
        if constexpr (kRound % 4 == 3) {
            constexpr uint32_t s = (kRound + 1) / 4;
#pragma GCC unroll 4
            for (int i = 0; i < N; ++i) {
                x0[i] += k[s % 5];
                x1[i] += k[(s + 1) % 5];
                x2[i] += k[(s + 2) % 5];
                x3[i] += k[(s + 3) % 5] + s;
            }
        }
        threefry_rounds<kRounds, N, kRound + 1>(x0, x1, x2, x3, k);
    }
}

template <int kRounds>
struct Threefry {
    static constexpr int kVectors = kPairs / 2;  // of 2 * kLanes counters each

    template <int N>
    static inline void run(const uint32_t key[4], u32v (&x0)[N], u32v (&x1)[N], u32v (&x2)[N],
                           u32v (&x3)[N]) {
        const uint32_t k[5] = {key[0], key[1], key[2], key[3],
                               0x1BD11BDAu ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
        for (int i = 0; i < N; ++i) {
            x0[i] += k[0];
            x1[i] += k[1];
            x2[i] += k[2];
            x3[i] += k[3];
        }
        threefry_rounds<kRounds>(x0, x1, x2, x3, k);
    }

    // The counters of a vector are in the order that makes its even 32-bit lanes the first kLanes
    // blocks and its odd ones the next, so that pairing words is a shift and a mask.
    struct Start {
        u32v blocks[kVectors];
    };

    static inline void begin(const Address&, uint32_t block0, Start& start) {
        const u64v numbers = lane_numbers();
        const u32v lanes = u32v(numbers | ((numbers + kLanes) << 32));
        for (int i = 0; i < kVectors; ++i)
            start.blocks[i] = lanes + uint32_t(block0 + 2 * i * kLanes);
    }

    static inline void generate(const Address& at, const Start& start, Group& group) {
        u32v x0[kVectors], x1[kVectors], x2[kVectors], x3[kVectors];
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
            x0[i] = start.blocks[i];
            x1[i] = u32v{} + at.c1;
            x2[i] = u32v{} + at.c2;
            x3[i] = u32v{} + at.c3;
        }
        run(at.key, x0, x1, x2, x3);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
            const u64v a = u64v(x0[i]), b = u64v(x1[i]), c = u64v(x2[i]), d = u64v(x3[i]);
            group.low[2 * i] = (a & 0xFFFFFFFFu) | (b << 32);
            group.high[2 * i] = (c & 0xFFFFFFFFu) | (d << 32);
            group.low[2 * i + 1] = (a >> 32) | (b & 0xFFFFFFFF00000000u);
            group.high[2 * i + 1] = (c >> 32) | (d & 0xFFFFFFFF00000000u);
        }
    }

    static inline void words(const uint32_t c[4], const uint32_t key[4], uint32_t out[4]) {
        u32v x0[1] = {u32v{} + c[0]}, x1[1] = {u32v{} + c[1]}, x2[1] = {u32v{} + c[2]},
             x3[1] = {u32v{} + c[3]};
        run(key, x0, x1, x2, x3);
        const u32v* lanes[4] = {x0, x1, x2, x3};
        for (int i = 0; i < 4; ++i) out[i] = (*lanes[i])[2 * kLanes - 1];
    }
};

// 16-byte blocks in index order.
inline void store_group(const u64v (&low)[kPairs], const u64v (&high)[kPairs], void* out) {
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
        const u64v first = even_lanes(low[i], high[i]), second = odd_lanes(low[i], high[i]);
        __builtin_memcpy(static_cast<char*>(out) + 2 * i * kBytes, &first, kBytes);
        __builtin_memcpy(static_cast<char*>(out) + (2 * i + 1) * kBytes, &second, kBytes);
    }
}

template <class G>
void plane_blocks(const Plane& plane, uint32_t block0, size_t blocks, void* out) {
    const Address at =
        address_of(plane.seed, plane.stream, plane.layer, plane.generation, plane.plane);
    typename G::Start start;
    Group group;
    size_t block = 0;
    for (; block + kGroupBlocks <= blocks; block += kGroupBlocks) {
        G::begin(at, uint32_t(block0 + block), start);
        G::generate(at, start, group);
        store_group(group.low, group.high, static_cast<char*>(out) + 16 * block);
    }
    if (block < blocks) {
        uint64_t words[2 * kGroupBlocks];
        G::begin(at, uint32_t(block0 + block), start);
        G::generate(at, start, group);
        store_group(group.low, group.high, words);
        __builtin_memcpy(static_cast<char*>(out) + 16 * block, words, 16 * (blocks - block));
    }
}

// One vector of blocks of a group.
struct Blocks {
    u64v low, high;
};

inline Blocks operator^(const Blocks& a, const Blocks& b) {
    return {a.low ^ b.low, a.high ^ b.high};
}

inline Blocks blocks_of(const Group& group, int i) { return {group.low[i], group.high[i]}; }

// u < threshold, one more bit of u: from the least significant bit up, the highest differing bit
// decides last.
inline void compare_bit(Blocks& below, const Blocks& u, bool threshold_bit) {
    if (threshold_bit) {
        below.low |= ~u.low;
        below.high |= ~u.high;
    } else {
        below.low &= ~u.low;
        below.high &= ~u.high;
    }
}

// By the bits of u so far: whether u < prune and whether u < 2^bits - lock.
struct Compared {
    Blocks pruned, unlocked;
};

inline void compare_plane(const FreezePattern& pattern, uint32_t plane, const Blocks& u,
                          Compared& compared) {
    const uint32_t bit = pattern.bits - 1 - plane, lock_from = (1u << pattern.bits) - pattern.lock;
    compare_bit(compared.pruned, u, pattern.prune >> bit & 1);
    if (pattern.lock != 0) compare_bit(compared.unlocked, u, lock_from >> bit & 1);
}

// X<kTurn> of docs/format.md, section 3.
template <uint32_t kTurn>
inline Blocks turned(const Blocks& x) {
    constexpr uint32_t left = kTurn % 64;
    const u64v low = kTurn < 64 ? x.low : x.high, high = kTurn < 64 ? x.high : x.low;
    if constexpr (left == 0) {
        return {low, high};
    } else {
        return {(low << left) | (low >> (64 - left)), (high << left) | (high >> (64 - left))};
    }
}

// Planes kPlane, kPlane - 1, ..., kLast of the law `mixed`, sums of X and Y.
template <uint32_t kPlane, uint32_t kLast>
inline void compare_sums(const FreezePattern& pattern, const Blocks& x, const Blocks& y,
                         Compared& compared) {
    if constexpr (kPlane >= kLast) {
        if (kPlane < pattern.bits) {
            constexpr MixedPlane turns = kMixedPlanes[kPlane];
            compare_plane(pattern, kPlane, turned<turns.first>(x) ^ turned<turns.second>(y),
                          compared);
        }
        compare_sums<kPlane - 1, kLast>(pattern, x, y, compared);
    }
}

// All planes of the law `mixed`, more than two, from planes 0 and 1.
inline void compare_mixed(const FreezePattern& pattern, const Blocks& a, const Blocks& c,
                          Compared& compared) {
    const Blocks t = a ^ turned<kMixT[0]>(c) ^ turned<kMixT[1]>(a);
    const Blocks u = c ^ turned<kMixU[0]>(a) ^ turned<kMixU[1]>(c);
    if (pattern.bits > 8) {
        const Blocks w = a ^ turned<kMixW[0]>(a) ^ turned<kMixW[1]>(c);
        compare_sums<15, 12>(pattern, u, w, compared);
        compare_sums<11, 8>(pattern, t, w, compared);
    }
    compare_sums<7, 2>(pattern, t, u, compared);
    compare_plane(pattern, 1, c, compared);
    compare_plane(pattern, 0, a, compared);
}

template <class G>
inline void freeze_group(const FreezePattern& pattern, uint32_t block0, uint64_t* free,
                         uint64_t* locked) {
    const auto address = [&pattern](uint32_t plane) {
        return address_of(pattern.seed, 1, pattern.layer, 0, plane);
    };
    typename G::Start start;
    if (pattern.bits > 0) G::begin(address(0), block0, start);
    const auto generate = [&](uint32_t plane, Group& group) {
        G::generate(address(plane), start, group);
    };
    // The threshold 2^bits, where all is pruned or nothing locked, has no bit in any plane: all are
    // below it.
    const u64v all_pruned = u64v{} - uint64_t{pattern.prune == 1u << pattern.bits};
    const u64v none_locked = u64v{} - uint64_t{pattern.lock == 0};
    Compared compared[kPairs];
    for (Compared& blocks : compared)
        blocks = {{all_pruned, all_pruned}, {none_locked, none_locked}};
    if (pattern.law == FreezeLaw::mixed && pattern.bits > 2) {
        Group a, c;
        generate(0, a);
        generate(1, c);
        for (int i = 0; i < kPairs; ++i)
            compare_mixed(pattern, blocks_of(a, i), blocks_of(c, i), compared[i]);
    } else {
        for (uint32_t plane = pattern.bits; plane-- > 0;) {
            Group u;
            generate(plane, u);
#pragma GCC unroll 4
            for (int i = 0; i < kPairs; ++i)
                compare_plane(pattern, plane, blocks_of(u, i), compared[i]);
        }
    }
    Group to_free, to_locked;
    for (int i = 0; i < kPairs; ++i) {
        const auto& [pruned, unlocked] = compared[i];
        to_free.low[i] = unlocked.low & ~pruned.low;
        to_free.high[i] = unlocked.high & ~pruned.high;
        to_locked.low[i] = ~unlocked.low;
        to_locked.high[i] = ~unlocked.high;
    }
    store_group(to_free.low, to_free.high, free);
    store_group(to_locked.low, to_locked.high, locked);
}

template <class G>
void freeze_blocks(const FreezePattern& pattern, uint32_t block0, size_t blocks, uint64_t* free,
                   uint64_t* locked) {
    size_t block = 0;
    for (; block + kGroupBlocks <= blocks; block += kGroupBlocks) {
        freeze_group<G>(pattern, uint32_t(block0 + block), free + 2 * block, locked + 2 * block);
    }
    if (block < blocks) {
        uint64_t last_free[2 * kGroupBlocks], last_locked[2 * kGroupBlocks];
        freeze_group<G>(pattern, uint32_t(block0 + block), last_free, last_locked);
        __builtin_memcpy(free + 2 * block, last_free, 16 * (blocks - block));
        __builtin_memcpy(locked + 2 * block, last_locked, 16 * (blocks - block));
    }
}

template <class G>
void words_of(size_t count, const uint32_t* counters, const uint32_t* keys, uint32_t* out) {
    for (size_t i = 0; i < count; ++i) G::words(counters + 4 * i, keys + 4 * i, out + 4 * i);
}

// Calls use(G) with the type of the generator; callers have checked the rounds.
template <class F>
inline void with_generator(Generator generator, uint32_t rounds, F use) {
    if (generator == Generator::philox4x32) {
        rounds == 10 ? use(Philox<10>()) : use(Philox<7>());
    } else {
        rounds == 20   ? use(Threefry<20>())
        : rounds == 13 ? use(Threefry<13>())
                       : use(Threefry<12>());
    }
}

void plane(const Plane& p, uint32_t block0, size_t blocks, void* out) {
    with_generator(p.generator, p.rounds,
                   [&](auto g) { plane_blocks<decltype(g)>(p, block0, blocks, out); });
}

void freeze(const FreezePattern& p, uint32_t block0, size_t blocks, uint64_t* free,
            uint64_t* locked) {
    with_generator(p.generator, p.rounds,
                   [&](auto g) { freeze_blocks<decltype(g)>(p, block0, blocks, free, locked); });
}

void words(Generator generator, uint32_t rounds, size_t count, const uint32_t* counters,
           const uint32_t* keys, uint32_t* out) {
    with_generator(generator, rounds,
                   [&](auto g) { words_of<decltype(g)>(count, counters, keys, out); });
}
