#include "random.h"

namespace slt {
namespace {

uint32_t rotate_left(uint32_t x, uint32_t by) { return (x << by) | (x >> (32 - by)); }

void philox(uint32_t rounds, const uint32_t counter[4], const uint32_t key[4], uint32_t c[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < 4; ++i) c[i] = counter[i];
    for (uint32_t round = 0; round < rounds; ++round) {
        const uint64_t p0 = uint64_t{c[0]} * 0xD2511F53u, p1 = uint64_t{c[2]} * 0xCD9E8D57u;
        c[0] = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0;
        c[1] = static_cast<uint32_t>(p1);
        c[2] = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1;
        c[3] = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

void threefry(uint32_t rounds, const uint32_t counter[4], const uint32_t key[4], uint32_t x[4]) {
    static constexpr uint32_t kRotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                                  {6, 20},  {17, 11}, {25, 10}, {18, 20}};
    const uint32_t k[5] = {key[0], key[1], key[2], key[3],
                           0x1BD11BDAu ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
    for (int i = 0; i < 4; ++i) x[i] = counter[i] + k[i];
    for (uint32_t round = 0; round < rounds; ++round) {
        const uint32_t odd = round % 2, first = odd ? 3 : 1, second = odd ? 1 : 3;
        x[0] += x[first];
        x[first] = rotate_left(x[first], kRotations[round % 8][0]) ^ x[0];
        x[2] += x[second];
        x[second] = rotate_left(x[second], kRotations[round % 8][1]) ^ x[2];
        if (round % 4 == 3) {
            const uint32_t s = (round + 1) / 4;
            for (uint32_t i = 0; i < 4; ++i) x[i] += k[(s + i) % 5];
            x[3] += s;
        }
    }
}

}  // namespace

void random_words(Generator generator, uint32_t rounds, const uint32_t counter[4],
                  const uint32_t key[4], uint32_t out[4]) {
    uint32_t words[4];
    (generator == Generator::philox4x32 ? philox : threefry)(rounds, counter, key, words);
    for (int i = 0; i < 4; ++i) out[i] = words[i];
}

}  // namespace slt
