// Random planes and freeze patterns for slt_infer._core; see bindings.cpp.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "isa.h"
#include "layer.h"

namespace py = pybind11;

namespace {

using Words32 = py::array_t<uint32_t, py::array::c_style | py::array::forcecast>;
using Words64 = py::array_t<uint64_t, py::array::c_style>;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

py::array_t<uint32_t> random_words(const std::string& generator, uint32_t rounds,
                                   const Words32& counters, const Words32& keys,
                                   const std::string& isa) {
    const slt::Generator g = slt::generator_of(generator);
    slt::check_generator(g, rounds);
    const slt::Ops& ops = slt::ops(isa);
    if (counters.ndim() != 2 || counters.shape(1) != 4) refuse("counters must have shape [n, 4]");
    const auto count = counters.shape(0);
    if (keys.ndim() != 2 || keys.shape(0) != count || (keys.shape(1) != 4 && keys.shape(1) != 2)) {
        refuse("keys must have shape [n, 4] or [n, 2]");
    }
    std::vector<uint32_t> whole(4 * static_cast<size_t>(count), 0);
    for (py::ssize_t i = 0; i < count; ++i) {
        for (py::ssize_t j = 0; j < keys.shape(1); ++j)
            whole[4 * static_cast<size_t>(i) + static_cast<size_t>(j)] = keys.at(i, j);
    }
    py::array_t<uint32_t> out({count, py::ssize_t{4}});
    ops.words(g, rounds, static_cast<size_t>(count), counters.data(), whole.data(),
              out.mutable_data());
    return out;
}

void check_blocks(uint64_t block0, uint64_t blocks) {
    if (block0 > uint64_t{1} << 32 || blocks > (uint64_t{1} << 32) - block0)
        refuse("blocks must be below 2^32");
}

py::array_t<uint32_t> plane(const std::string& generator, uint32_t rounds, uint64_t seed,
                            uint32_t stream, uint32_t layer, uint32_t generation, uint32_t plane,
                            uint64_t block0, uint64_t blocks, const std::string& isa) {
    const slt::Plane address = {
        slt::generator_of(generator), rounds, seed, stream, layer, generation, plane};
    slt::check_generator(address.generator, rounds);
    if (generation >= 1u << 24 || plane >= 256)
        refuse("generation must be below 2^24 and plane below 256");
    check_blocks(block0, blocks);
    const slt::Ops& ops = slt::ops(isa);
    py::array_t<uint32_t> out(static_cast<py::ssize_t>(4 * blocks));
    uint32_t* words = out.mutable_data();
    py::gil_scoped_release release;
    ops.plane(address, static_cast<uint32_t>(block0), blocks, words);
    return out;
}

// Blocks of a row, once rows [first, first + count) are known to exist.
uint64_t row_blocks(uint64_t fan_in, uint64_t first, uint64_t count) {
    if (fan_in < 1 || fan_in > 1u << 24) refuse("fan_in must be 1 to 2^24");
    if (first > 1u << 20 || count > (1u << 20) - first) refuse("rows must be below 2^20");
    const uint64_t blocks = (fan_in + 127) / 128;
    if ((first + count) * blocks > uint64_t{1} << 25) refuse("rows * P must be at most 2^32");
    return blocks;
}

Words64 signs(const std::string& generator, uint32_t rounds, uint64_t seed, uint32_t id,
              uint64_t fan_in, uint64_t first, uint64_t count, const std::string& isa) {
    const slt::Plane address = {slt::generator_of(generator), rounds, seed, 0, id, 0, 0};
    slt::check_generator(address.generator, rounds);
    const uint64_t blocks = row_blocks(fan_in, first, count);
    const slt::Ops& ops = slt::ops(isa);
    Words64 out({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(2 * blocks)});
    uint64_t* words = out.mutable_data();
    py::gil_scoped_release release;
    ops.plane(address, static_cast<uint32_t>(first * blocks), count * blocks, words);
    slt::clear_padding(words, count, static_cast<uint32_t>(fan_in));
    return out;
}

py::tuple freeze_rows(const std::string& generator, uint32_t rounds, uint64_t seed,
                      const std::string& law, uint32_t id, uint64_t fan_in, uint32_t bits,
                      uint32_t prune, uint32_t lock, uint64_t first, uint64_t count,
                      const std::string& isa) {
    const slt::FreezePattern pattern = {
        slt::generator_of(generator), rounds, seed, slt::law_of(law), id, bits, prune, lock};
    slt::check_generator(pattern.generator, rounds);
    slt::check_freeze(bits, prune, lock);
    const uint64_t blocks = row_blocks(fan_in, first, count);
    const slt::Ops& ops = slt::ops(isa);
    const std::vector<py::ssize_t> shape = {static_cast<py::ssize_t>(count),
                                            static_cast<py::ssize_t>(2 * blocks)};
    Words64 free(shape), locked(shape);
    uint64_t *free_words = free.mutable_data(), *locked_words = locked.mutable_data();
    {
        py::gil_scoped_release release;
        ops.freeze(pattern, static_cast<uint32_t>(first * blocks), count * blocks, free_words,
                   locked_words);
        slt::clear_padding(free_words, count, static_cast<uint32_t>(fan_in));
        slt::clear_padding(locked_words, count, static_cast<uint32_t>(fan_in));
    }
    return py::make_tuple(free, locked);
}

}  // namespace

void bind_random(py::module_& module) {
    using py::arg;
    module.def("random_words", &random_words, arg("generator"), arg("rounds"), arg("counters"),
               arg("keys"), arg("isa") = "",
               "uint32 [n, 4]: the generator's words for counters [n, 4] and keys [n, 2 or 4].");
    module.def("plane", &plane, arg("generator"), arg("rounds"), arg("seed"), arg("stream"),
               arg("layer"), arg("generation"), arg("plane"), arg("block0"), arg("blocks"),
               arg("isa") = "", "uint32 [4 * blocks]: bits of a plane in index order.");
    module.def("signs", &signs, arg("generator"), arg("rounds"), arg("seed"), arg("id"),
               arg("fan_in"), arg("first"), arg("count"), arg("isa") = "",
               "uint64 [count, P / 64]: signs of whole rows, 0 in padding.");
    module.def("freeze_rows", &freeze_rows, arg("generator"), arg("rounds"), arg("seed"),
               arg("law"), arg("id"), arg("fan_in"), arg("bits"), arg("prune"), arg("lock"),
               arg("first"), arg("count"), arg("isa") = "",
               "(free, locked), uint64 [count, P / 64], 0 in padding.");
}
