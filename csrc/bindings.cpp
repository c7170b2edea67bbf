// slt_infer._core: NumPy arrays in and out, std::invalid_argument as ValueError. Checks sizes, then
// releases the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "codec.h"
#include "conv.h"
#include "crc32c.h"
#include "isa.h"
#include "prior.h"

namespace py = pybind11;

void bind_random(py::module_& module);   // bind_random.cpp
void bind_runtime(py::module_& module);  // bind_runtime.cpp
void bind_peaks(py::module_& module);    // bind_peaks.cpp
void bind_int8(py::module_& module);     // bind_int8.cpp

namespace {

using slt::LayerCode;
using Words32 = py::array_t<uint32_t, py::array::c_style | py::array::forcecast>;
using Words64 = py::array_t<uint64_t, py::array::c_style>;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

// A contiguous view of any object with a buffer of bytes.
struct Bytes {
    explicit Bytes(const py::buffer& buffer) : info(buffer.request()) {
        py::ssize_t expected = info.itemsize;
        for (auto i = info.ndim; i-- > 0; expected *= info.shape[i]) {
            if (info.strides[i] != expected && info.shape[i] > 1)
                refuse("the buffer is not contiguous");
        }
    }
    const uint8_t* data() const { return static_cast<const uint8_t*>(info.ptr); }
    size_t size() const { return static_cast<size_t>(info.size * info.itemsize); }
    py::buffer_info info;
};

template <class T>
py::array_t<T> to_numpy(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

uint32_t crc32c(const py::buffer& buffer, uint32_t value) {
    const Bytes bytes(buffer);
    py::gil_scoped_release release;
    return slt::crc32c(bytes.data(), bytes.size(), value);
}

py::dict machine() {
    py::dict result;
    std::vector<std::string> isas;
    for (const slt::Ops* table : slt::available_ops()) isas.push_back(table->name);
    const auto features = slt::cpu_features();
    result["arch"] = slt::cpu_architecture();
    result["cpu"] = slt::cpu_name();
    result["features"] = std::vector<std::string>(features.begin(), features.end());
    result["isas"] = isas;
    result["isa"] = slt::ops().name;
    result["why"] = slt::choice_reason();
    return result;
}

// Mask words that begin with word first div 32, as encoders take them.
void check_tile(uint64_t first, uint64_t last) {
    if (first > last || last > uint64_t{1} << 32)
        refuse("ordinals must have 0 <= first <= last <= 2^32");
}

const uint32_t* tile_words(const Words32& mask, uint64_t first, uint64_t last) {
    check_tile(first, last);
    if (first < last && static_cast<uint64_t>(mask.size()) <= (last - 1) / 32) {
        refuse("the mask has " + std::to_string(mask.size()) + " words, ordinal " +
               std::to_string(last - 1) + " needs more");
    }
    return mask.data() + (first == last ? 0 : first / 32);
}

using Intervals = std::vector<std::pair<uint32_t, uint32_t>>;  // (start, f)

slt::Densities densities_of(uint32_t planes, bool sign, const Intervals& intervals) {
    slt::Densities densities{};
    densities.planes = planes;
    densities.sign = sign;
    if (intervals.size() > 16) refuse("there must be 1 to 16 intervals");
    for (const auto& [start, f] : intervals) {
        if (start > 0xFFFF || f > 0xFFFF) refuse("an interval's start or density is out of range");
        densities.start[densities.count] = static_cast<uint16_t>(start);
        densities.f[densities.count++] = static_cast<uint16_t>(f);
    }
    slt::check_densities(densities);
    return densities;
}

slt::Densities static_of(uint32_t density) { return densities_of(0, false, {{0, density}}); }

slt::Plane scores_of(const std::string& generator, uint32_t rounds, uint64_t seed, uint32_t id) {
    const slt::Plane scores = {
        slt::generator_of(generator), rounds, seed, slt::kScoreStream, id, 0, 0};
    slt::check_generator(scores.generator, rounds);
    return scores;
}

void check_lanes(uint32_t lanes) {
    if (lanes != 4 && lanes != 32) refuse("lanes must be 4 or 32, not " + std::to_string(lanes));
}

py::bytes encode(const Words32& mask, uint64_t first, uint64_t last, uint32_t lanes,
                 const slt::Plane& scores, const slt::Densities& densities,
                 const std::string& isa) {
    check_lanes(lanes);
    const uint32_t* words = tile_words(mask, first, last);
    const slt::Ops& ops = slt::ops(isa);
    std::vector<uint8_t> payload;
    {
        py::gil_scoped_release release;
        payload = slt::encode(words, first, last, lanes, scores, densities, ops);
    }
    return py::bytes(reinterpret_cast<const char*>(payload.data()), payload.size());
}

py::bytes encode_static(const Words32& mask, uint64_t first, uint64_t last, uint32_t lanes,
                        uint32_t density) {
    return encode(mask, first, last, lanes, {}, static_of(density), "");
}

py::bytes encode_prior(const Words32& mask, uint64_t first, uint64_t last, uint32_t lanes,
                       const std::string& generator, uint32_t rounds, uint64_t seed, uint32_t id,
                       uint32_t planes, bool sign, const Intervals& intervals,
                       const std::string& isa) {
    return encode(mask, first, last, lanes, scores_of(generator, rounds, seed, id),
                  densities_of(planes, sign, intervals), isa);
}

py::bytes encode_raw(const Words32& mask, uint64_t first, uint64_t last) {
    const auto payload = slt::encode_raw(tile_words(mask, first, last), first, last);
    return py::bytes(reinterpret_cast<const char*>(payload.data()), payload.size());
}

py::array_t<uint64_t> deposit(const Words64& free, const Words32& mask, const std::string& isa) {
    const auto words = static_cast<size_t>(free.size());
    if (static_cast<uint64_t>(mask.size()) < 2 * words + slt::kMaskPadding)
        refuse("the mask must have 2 words for each of free, and 3 more");
    const slt::Ops& ops = slt::ops(isa);
    py::array_t<uint64_t> out(free.size());
    std::copy_n(free.data(), words, out.mutable_data());
    uint64_t* placed = out.mutable_data();
    {
        py::gil_scoped_release release;
        ops.deposit(placed, words, mask.data(), 0);
    }
    return out;
}

py::array_t<uint64_t> count_cells(const Words32& mask, uint64_t free, const std::string& generator,
                                  uint32_t rounds, uint64_t seed, uint32_t id, uint32_t planes) {
    if (planes > 8) refuse("planes must be at most 8");
    const uint32_t* words = tile_words(mask, 0, free);
    const slt::Plane scores = scores_of(generator, rounds, seed, id);
    std::vector<uint64_t> counts;
    {
        py::gil_scoped_release release;
        counts = slt::count_cells(words, free, scores, planes, slt::ops(""));
    }
    return to_numpy(counts).reshape({-1, 2});
}

py::tuple cut_cells(const Words64& counts) {
    if (counts.ndim() != 2 || counts.shape(1) != 2 || counts.shape(0) < 1 || counts.shape(0) > 512)
        refuse("counts must be [cells, 2] of 1 to 512 cells");
    const slt::Cut cut = slt::cut_cells(counts.data(), static_cast<size_t>(counts.shape(0)));
    return py::make_tuple(cut.intervals, cut.bits);
}

py::array_t<uint32_t> decode(const py::buffer& payload, uint64_t first, uint64_t last,
                             uint32_t lanes, const slt::Plane& scores,
                             const slt::Densities& densities, const std::string& isa) {
    check_tile(first, last);
    check_lanes(lanes);
    const slt::Ops& ops = slt::ops(isa);
    const Bytes bytes(payload);
    if (bytes.size() % 2) refuse("the payload must be of 16-bit words");
    if (first == last) {
        if (bytes.size() > 0) refuse(slt::text_of(slt::TileFault::words_left));
        return py::array_t<uint32_t>(0);
    }
    std::vector<uint8_t> padded(bytes.data(), bytes.data() + bytes.size());
    padded.resize(padded.size() + slt::kPayloadPadding);
    py::array_t<uint32_t> out(static_cast<py::ssize_t>(slt::mask_words_of(first, last)));
    uint32_t* words = out.mutable_data();
    slt::TileJob job = {padded.data(), bytes.size() / 2, first, last, words, slt::TileFault::none};
    {
        py::gil_scoped_release release;
        slt::decode(&job, 1, lanes, scores, densities, ops);
    }
    if (job.fault != slt::TileFault::none) refuse(slt::text_of(job.fault));
    return out;
}

py::array_t<uint32_t> decode_static(const py::buffer& payload, uint64_t first, uint64_t last,
                                    uint32_t lanes, uint32_t density, const std::string& isa) {
    return decode(payload, first, last, lanes, {}, static_of(density), isa);
}

py::array_t<uint32_t> decode_prior(const py::buffer& payload, uint64_t first, uint64_t last,
                                   uint32_t lanes, const std::string& generator, uint32_t rounds,
                                   uint64_t seed, uint32_t id, uint32_t planes, bool sign,
                                   const Intervals& intervals, const std::string& isa) {
    return decode(payload, first, last, lanes, scores_of(generator, rounds, seed, id),
                  densities_of(planes, sign, intervals), isa);
}

std::shared_ptr<LayerCode> make_layer(const std::string& generator, uint32_t rounds, uint64_t seed,
                                      const std::string& law, uint32_t id, uint32_t out,
                                      uint32_t fan_in, uint32_t bits, uint32_t prune, uint32_t lock,
                                      const std::string& mode, uint32_t density, uint32_t planes,
                                      bool sign, const Intervals& intervals, uint32_t tile_rows,
                                      const Words32& free, const Words32& words,
                                      const py::buffer& payload, slt::WeightMemoryPtr memory) {
    slt::LayerFields fields = {slt::generator_of(generator),
                               rounds,
                               seed,
                               slt::law_of(law),
                               id,
                               out,
                               fan_in,
                               bits,
                               prune,
                               lock,
                               slt::MaskMode::raw,
                               {},
                               tile_rows};
    if (mode == "const") {
        if (density != 0 && density != 4096) refuse("density of a const layer must be 0 or 4096");
        if (tile_rows != out) refuse("tile_rows of a const layer must be out");
        fields.mode = density == 0 ? slt::MaskMode::none : slt::MaskMode::all;
    } else if (mode == "static") {
        fields.mode = slt::MaskMode::coded;
        fields.densities = static_of(density);
    } else if (mode == "prior") {
        if (planes == 0 && !sign) refuse("a prior layer reads a plane at least");
        fields.mode = slt::MaskMode::coded;
        fields.densities = densities_of(planes, sign, intervals);
    } else if (mode != "raw") {
        refuse("unknown mode \"" + mode + "\"");
    }
    if ((mode == "raw" || mode == "prior") && density != 0)
        refuse("density of a " + mode + " layer must be 0");
    if (mode != "prior" && (planes != 0 || sign || !intervals.empty()))
        refuse("planes, sign and intervals are for prior layers");
    const Bytes bytes(payload);
    const std::vector<uint32_t> free_list(free.data(), free.data() + free.size());
    const std::vector<uint32_t> word_list(words.data(), words.data() + words.size());
    return std::make_shared<LayerCode>(fields, free_list, word_list, bytes.data(), bytes.size(),
                                       std::move(memory));
}

py::tuple layer_counts(const LayerCode& layer, const std::string& isa, uint32_t tile_rows) {
    if (tile_rows > layer.fields().out) refuse("tile_rows must be at most the layer's rows");
    const slt::Ops& ops = slt::ops(isa);
    LayerCode::Counts counts;
    {
        py::gil_scoped_release release;
        counts = layer.counts(ops, tile_rows);
    }
    return py::make_tuple(counts.pruned, counts.locked, counts.free, to_numpy(counts.tiles));
}

py::array_t<uint32_t> layer_mask(const LayerCode& layer, slt::Workspace* work) {
    slt::Threads alone(1);
    const slt::Ops& ops = work ? work->ops : slt::ops();
    uint64_t free = 0;
    {
        py::gil_scoped_release release;
        free = layer.free(ops);
    }
    py::array_t<uint32_t> mask(static_cast<py::ssize_t>((free + 31) / 32));
    uint32_t* bits = mask.mutable_data();
    {
        py::gil_scoped_release release;
        layer.mask(bits, ops, work ? work->threads : alone);
    }
    return mask;
}

py::array_t<uint32_t> layer_tile_ones(const LayerCode& layer, const std::string& isa) {
    const slt::Ops& ops = slt::ops(isa);
    std::vector<uint32_t> ones;
    {
        py::gil_scoped_release release;
        ones = layer.tile_ones(ops);
    }
    return to_numpy(ones);
}

py::tuple layer_rows(const LayerCode& layer, uint32_t first, uint32_t count,
                     const std::string& isa) {
    const slt::Ops& ops = slt::ops(isa);
    if (first > layer.fields().out || count > layer.fields().out - first)
        refuse("rows are outside the layer");
    const std::vector<py::ssize_t> shape = {count, static_cast<py::ssize_t>(layer.row_words())};
    Words64 kept(shape), sign(shape);
    uint64_t *kept_words = kept.mutable_data(), *sign_words = sign.mutable_data();
    {
        py::gil_scoped_release release;
        layer.rows(first, count, kept_words, sign_words, ops);
    }
    return py::make_tuple(kept, sign);
}

void bind_layer(py::module_& module) {
    using py::arg;
    py::class_<slt::WeightMemory, slt::WeightMemoryPtr>(
        module, "WeightMemory", "Counts the bytes held by anything derived from weights.")
        .def(py::init<>())
        .def_property_readonly("current", &slt::WeightMemory::current)
        .def_property_readonly("peak", &slt::WeightMemory::peak)
        .def("reset_peak", &slt::WeightMemory::reset_peak);
    py::class_<LayerCode, std::shared_ptr<LayerCode>>(
        module, "LayerCode",
        "One layer's coded weights; ValueError where sizes do not agree or a tile is malformed.")
        .def(py::init(&make_layer), py::kw_only(), arg("generator"), arg("rounds"), arg("seed"),
             arg("law"), arg("id"), arg("out"), arg("fan_in"), arg("bits"), arg("prune"),
             arg("lock"), arg("mode"), arg("density"), arg("planes"), arg("sign"), arg("intervals"),
             arg("tile_rows"), arg("free"), arg("words"), arg("payload"), arg("memory").none(false))
        .def_property_readonly("out", [](const LayerCode& layer) { return layer.fields().out; })
        .def_property_readonly("fan_in",
                               [](const LayerCode& layer) { return layer.fields().fan_in; })
        .def_property_readonly("row_words", &LayerCode::row_words)
        .def("group_bytes", &slt::group_bytes, arg("threads"),
             "Bytes that regenerating it and its kernel's lists take at most.")
        .def("counts", &layer_counts, arg("isa") = "", arg("tile_rows") = 0,
             "(pruned, locked, free) weights by the freeze pattern alone, and uint64 [tiles]: the "
             "free ones of each tile, of `tile_rows` rows or, if that is 0, of the layer's own.")
        .def("mask", &layer_mask, arg("work") = nullptr,
             "uint32 [ceil(free / 32)]: all mask bits by free ordinal; the threads of `work` share "
             "the tiles.")
        .def("tile_ones", &layer_tile_ones, arg("isa") = "",
             "uint32 [tiles]: set mask bits; every tile is decoded and checked, a few at a time.")
        .def("rows", &layer_rows, arg("first"), arg("count"), arg("isa") = "",
             "(kept, sign), uint64 [count, P / 64]; sign is 1 where negative, 0 where not kept.");
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    using py::arg;
    module.doc() =
        "Random planes, freeze patterns, mask codec and kernels; docs/format.md is normative.";
    module.def("machine", &machine,
               "What this machine is, which ISAs run on it, which is used and why.");
    module.def("crc32c", &crc32c, arg("buffer"), arg("value") = 0,
               "CRC-32C of the bytes that gave `value`, then these.");
    bind_random(module);
    module.def("lanes_of", &slt::lanes_of, arg("bits"),
               "Lanes, 4 or 32, of the coded tiles of a stream of so many mask bits in all.");
    module.def("encode_static", &encode_static, arg("mask"), arg("first"), arg("last"),
               arg("lanes"), arg("density"),
               "Payload of a static tile of ordinals [first, last); mask is the layer's whole "
               "mask, uint32.");
    module.def("encode_raw", &encode_raw, arg("mask"), arg("first"), arg("last"),
               "Payload of a raw tile.");
    module.def("decode_static", &decode_static, arg("payload"), arg("first"), arg("last"),
               arg("lanes"), arg("density"), arg("isa") = "",
               "uint32 words first div 32 to (last - 1) div 32; ValueError if malformed.");
    module.def("encode_prior", &encode_prior, arg("mask"), arg("first"), arg("last"), arg("lanes"),
               arg("generator"), arg("rounds"), arg("seed"), arg("id"), arg("planes"), arg("sign"),
               arg("intervals"), arg("isa") = "",
               "Payload of a prior tile; intervals are (start, f of 4096) pairs.");
    module.def(
        "deposit", &deposit, arg("free"), arg("mask"), arg("isa") = "",
        "Each set bit of free (uint64, flat) replaced by the mask's next bit; mask has a bit "
        "for every position and 3 words more.");
    module.def("count_cells", &count_cells, arg("mask"), arg("free"), arg("generator"),
               arg("rounds"), arg("seed"), arg("id"), arg("planes"),
               "uint64 [2^(planes + 1), 2]: dropped and kept weights by the number of their cell.");
    module.def("cut_cells", &cut_cells, arg("counts"),
               "(intervals, bits) of the cheapest cut of the cells into at most 16 intervals.");
    module.def("decode_prior", &decode_prior, arg("payload"), arg("first"), arg("last"),
               arg("lanes"), arg("generator"), arg("rounds"), arg("seed"), arg("id"), arg("planes"),
               arg("sign"), arg("intervals"), arg("isa") = "", "As decode_static.");
    bind_layer(module);
    bind_runtime(module);
    bind_peaks(module);
    bind_int8(module);
}
