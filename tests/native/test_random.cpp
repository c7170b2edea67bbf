#include <fstream>
#include <sstream>

#include "check.h"

namespace test {
namespace {

std::string label(const slt::Ops* ops, const Version& version, const std::string& more) {
    return std::string(ops->name) + " " + version.name + "-" + std::to_string(version.rounds) +
           " " + more;
}

}  // namespace

void known_answers(const std::string& path) {
    std::ifstream file(path);
    check(file.good(), "cannot read " + path);
    int rows = 0;
    for (std::string line; std::getline(file, line);) {
        std::istringstream fields(line);
        std::string name;
        uint32_t rounds;
        fields >> name >> rounds;
        if (name.empty()) continue;
        std::vector<uint32_t> words;
        for (uint32_t word; fields >> std::hex >> word;) words.push_back(word);
        const bool philox = name == "philox4x32";
        check(words.size() == (philox ? 10u : 12u), "row of " + name + " has the wrong length");
        if (words.size() != (philox ? 10u : 12u)) continue;
        const uint32_t key[4] = {words[4], words[5], philox ? 0 : words[6], philox ? 0 : words[7]};
        const std::vector<uint32_t> expected(words.end() - 4, words.end());
        const auto generator = philox ? slt::Generator::philox4x32 : slt::Generator::threefry4x32;
        for (const slt::Ops* ops : slt::available_ops()) {
            std::vector<uint32_t> out(4);
            ops->words(generator, rounds, 1, words.data(), key, out.data());
            check(out == expected, std::string(ops->name) + " " + line);
            if (key[2] || key[3]) continue;
            // The same counter as the address of a plane: the code that weights come from.
            const slt::Plane plane = {generator,     rounds,   key[0] | uint64_t{key[1]} << 32,
                                      words[3],      words[2], words[1] >> 8,
                                      words[1] & 255};
            ops->plane(plane, words[0], 1, out.data());
            check(out == expected, std::string(ops->name) + " plane " + line);
        }
        ++rows;
    }
    check(rows == 15, "15 rows expected in " + path);
}

void planes() {
    Cases cases(1);
    for (const Version& version : kVersions) {
        for (int i = 0; i < 40; ++i) {
            const slt::Plane plane = {version.generator,
                                      version.rounds,
                                      cases.next(),
                                      static_cast<uint32_t>(cases.between(0, 5)),
                                      static_cast<uint32_t>(cases.next()),
                                      static_cast<uint32_t>(cases.between(0, (1 << 24) - 1)),
                                      static_cast<uint32_t>(cases.between(0, 255))};
            const size_t blocks = cases.between(1, 100);
            // Some ranges cross a multiple of 2^16, some end at the last block of all.
            const uint32_t last_first = static_cast<uint32_t>(0x100000000u - blocks);
            const uint32_t block0 =
                i % 4 == 0 ? last_first : static_cast<uint32_t>(cases.next()) % last_first;
            std::vector<uint32_t> expected(4 * blocks), out(4 * blocks + 1);
            slt::scalar_ops.plane(plane, block0, blocks, expected.data());
            for (const slt::Ops* ops : slt::available_ops()) {
                out.assign(out.size(), 0xA5A5A5A5u);
                ops->plane(plane, block0, blocks, out.data());
                check(out.back() == 0xA5A5A5A5u, label(ops, version, "wrote behind a plane"));
                out.pop_back();
                check(out == expected,
                      label(ops, version, "plane of " + std::to_string(blocks) + " blocks"));
                out.push_back(0);
            }
        }
    }
}

void freeze_patterns() {
    Cases cases(2);
    for (const Version& version : kVersions) {
        for (uint32_t i = 0; i < 60; ++i) {
            const uint32_t bits = i % 17, whole = 1u << bits;
            uint32_t prune = 0, lock = 0;
            if (bits > 0) {
                prune = static_cast<uint32_t>(cases.between(0, whole - 1)) | 1;
                lock = static_cast<uint32_t>(cases.between(0, whole - prune));
                if (i % 5 == 0) lock = 0;
                if (i % 7 == 0) lock = whole - prune;  // nothing is free
                if (i % 3 == 0) {                      // prune is even, lock odd
                    lock = prune;
                    prune =
                        static_cast<uint32_t>(cases.between(0, (whole - lock) / 2)) * (i % 2 * 2);
                }
            }
            const slt::FreezePattern pattern = {
                version.generator,
                version.rounds,
                cases.next(),
                i % 2 ? slt::FreezeLaw::mixed : slt::FreezeLaw::bernoulli,
                static_cast<uint32_t>(cases.next()),
                bits,
                prune,
                lock};
            const size_t blocks = cases.between(1, 70);
            const uint32_t block0 = static_cast<uint32_t>(cases.between(0, 1u << 25));
            std::vector<uint64_t> free(2 * blocks), locked(2 * blocks), free2(2 * blocks),
                locked2(2 * blocks);
            slt::scalar_ops.freeze(pattern, block0, blocks, free.data(), locked.data());
            for (const slt::Ops* ops : slt::available_ops()) {
                ops->freeze(pattern, block0, blocks, free2.data(), locked2.data());
                check(free == free2 && locked == locked2,
                      label(ops, version,
                            "freeze " + std::to_string(bits) + " " + std::to_string(prune) + " " +
                                std::to_string(lock)));
            }
        }
    }
}

}  // namespace test
