// The int8 part of slt_infer._core: layers and operators on int8 NumPy arrays, which must be
// contiguous. Sizes are checked here, the kernels trust them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include "int8.h"

namespace py = pybind11;

namespace {

using slt::Int8Layer;
using slt::Requantiser;
using slt::Sink;
using slt::Workspace;
using Bytes = py::array_t<int8_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void check_shape(const py::array& array, std::initializer_list<size_t> shape, const char* name) {
    bool fits = static_cast<size_t>(array.ndim()) == shape.size();
    py::ssize_t axis = 0;
    for (size_t size : shape) fits = fits && static_cast<size_t>(array.shape(axis++)) == size;
    if (!fits) refuse(std::string(name) + " has a wrong shape");
}

size_t size_of(const py::array& array, int axis) { return static_cast<size_t>(array.shape(axis)); }

size_t images_of(const py::array& x, py::ssize_t dimensions) {
    if (x.ndim() != dimensions) refuse("x must have " + std::to_string(dimensions) + " dimensions");
    return size_of(x, 0);
}

// What an operator writes: int8 values, or int32 logits.
struct Output {
    int8_t* values = nullptr;
    int32_t* logits = nullptr;
};

Output output(py::array& out) {
    if (!(out.flags() & py::array::c_style) || !out.writeable())
        refuse("out must be contiguous and writeable");
    if (py::isinstance<py::array_t<int8_t>>(out))
        return {static_cast<int8_t*>(out.mutable_data()), nullptr};
    if (py::isinstance<py::array_t<int32_t>>(out))
        return {nullptr, static_cast<int32_t*>(out.mutable_data())};
    refuse("out must be int8 or int32");
}

Sink sink_of(const Requantiser& requantiser, const std::optional<Bytes>& residual,
             std::initializer_list<size_t> shape, py::array& out, const slt::Ops& ops) {
    check_shape(out, shape, "out");
    const Output to = output(out);
    const auto* sizes = shape.begin();
    size_t pixels = 1;
    for (size_t i = 2; i < shape.size(); ++i) pixels *= sizes[i];
    if (residual) check_shape(*residual, shape, "residual");
    if (requantiser.channels() != 1 && requantiser.channels() != sizes[1])
        refuse("the requantiser has a wrong number of channels");
    return {requantiser,
            residual ? residual->data() : nullptr,
            static_cast<uint32_t>(sizes[1]),
            pixels,
            to.values,
            to.logits,
            ops};
}

std::unique_ptr<Int8Layer> make_layer(std::shared_ptr<slt::LayerCode> code, const std::string& keep,
                                      const std::string& kernel, std::array<uint32_t, 3> image,
                                      std::array<uint32_t, 2> kernel_size, uint32_t groups,
                                      uint32_t stride, uint32_t padding, Workspace& work) {
    slt::ConvShape shape{image[0],       image[1], image[2], kernel_size[0],
                         kernel_size[1], groups,   stride,   padding};
    if (stride == 0 || groups == 0 || image[0] % groups)
        refuse("stride and groups must be at least 1 and fit");
    if (uint64_t{image[1]} + 2 * uint64_t{padding} < kernel_size[0] ||
        uint64_t{image[2]} + 2 * uint64_t{padding} < kernel_size[1]) {
        refuse("the kernel does not fit into the image");
    }
    const auto form = keep == "none"     ? Int8Layer::Keep::none
                      : keep == "planes" ? Int8Layer::Keep::planes
                      : keep == "lists"
                          ? Int8Layer::Keep::lists
                          : (refuse("keep must be none, planes or lists"), Int8Layer::Keep::none);
    if (kernel != "add" && kernel != "dot") refuse("kernel must be add or dot");
    py::gil_scoped_release release;
    return std::make_unique<Int8Layer>(
        std::move(code), form, kernel == "add" ? Int8Layer::Kernel::add : Int8Layer::Kernel::dot,
        shape, work);
}

void conv2d(const Int8Layer& layer, Workspace& work, const Bytes& x, py::array out,
            const Requantiser& requantiser, const std::optional<Bytes>& residual) {
    const slt::ConvShape& s = layer.shape();
    const size_t n = images_of(x, 4);
    check_shape(x, {n, s.channels, s.height, s.width}, "x");
    const auto shape = {n, size_t{layer.out()}, size_t{s.out_rows()}, size_t{s.out_columns()}};
    const Sink sink = sink_of(requantiser, residual, shape, out, work.ops);
    py::gil_scoped_release release;
    layer.conv2d(x.data(), n, sink, work);
}

void linear(const Int8Layer& layer, Workspace& work, const Bytes& x, py::array out,
            const Requantiser& requantiser, const std::optional<Bytes>& residual) {
    const size_t n = images_of(x, 2);
    check_shape(x, {n, layer.fan_in()}, "x");
    const auto shape = {n, size_t{layer.out()}};
    const Sink sink = sink_of(requantiser, residual, shape, out, work.ops);
    py::gil_scoped_release release;
    layer.linear(x.data(), n, sink, work);
}

void quantise(Workspace& work, const Floats& x, float scale, Bytes out) {
    if (x.size() != out.size()) refuse("sizes differ");
    int8_t* to = out.mutable_data();
    const float* from = x.data();
    const auto size = static_cast<size_t>(x.size());
    constexpr size_t kBlock = 1024;
    py::gil_scoped_release release;
    work.threads.run([&](uint32_t part) {
        const auto blocks = static_cast<uint32_t>((size + kBlock - 1) / kBlock);
        const auto share = slt::share(blocks, 1, part, work.threads.count());
        const size_t begin = share.begin * kBlock, end = std::min(size, share.end * kBlock);
        if (begin < end) work.ops.quantise(from + begin, end - begin, scale, to + begin);
    });
}

slt::PoolShape pool_shape(const Bytes& x, uint32_t kernel, uint32_t stride, uint32_t padding) {
    images_of(x, 4);
    const auto size = [&](int axis) { return static_cast<uint32_t>(x.shape(axis)); };
    if (kernel == 0 || stride == 0 || padding > kernel / 2)
        refuse("kernel and stride must be at least 1, padding at most kernel / 2");
    if (kernel > 4096) refuse("kernel must be at most 4096");
    if (uint64_t{size(2)} + 2 * padding < kernel || uint64_t{size(3)} + 2 * padding < kernel)
        refuse("the kernel does not fit into the image");
    return {size(1), size(2), size(3), kernel, stride, padding};
}

void max_pool2d(Workspace& work, const Bytes& x, Bytes out, uint32_t kernel, uint32_t stride,
                uint32_t padding) {
    const slt::PoolShape s = pool_shape(x, kernel, stride, padding);
    const size_t n = size_of(x, 0);
    check_shape(out, {n, s.channels, s.out_rows(), s.out_columns()}, "out");
    int8_t* to = out.mutable_data();
    py::gil_scoped_release release;
    slt::max_pool2d_int8(x.data(), n * s.channels, s, to, work.threads);
}

void sum_pool2d(Workspace& work, const Bytes& x, py::array out, uint32_t kernel, uint32_t stride,
                uint32_t padding, const Requantiser& requantiser) {
    const slt::PoolShape s = pool_shape(x, kernel, stride, padding);
    const size_t n = size_of(x, 0);
    const auto shape = {n, size_t{s.channels}, size_t{s.out_rows()}, size_t{s.out_columns()}};
    const Sink sink = sink_of(requantiser, {}, shape, out, work.ops);
    py::gil_scoped_release release;
    slt::sum_pool2d_int8(x.data(), n * s.channels, s, sink, work.threads);
}

void global_sum(const Bytes& x, py::array out, const Requantiser& requantiser) {
    const size_t n = images_of(x, 4), channels = size_of(x, 1);
    const auto shape = {n, channels};
    const size_t pixels = size_of(x, 2) * size_of(x, 3);
    if (127 * pixels > size_t{INT32_MAX}) refuse("the sum of a plane may pass 2^31");
    const Sink sink = sink_of(requantiser, {}, shape, out, slt::ops());
    py::gil_scoped_release release;
    slt::global_sum_int8(x.data(), n * channels, pixels, sink);
}

void add(Workspace& work, const Bytes& a, const Bytes& b, py::array out,
         const Requantiser& requantiser) {
    if (a.size() != b.size() || a.size() != out.size()) refuse("sizes differ");
    if (requantiser.channels() != 1) refuse("the requantiser has a wrong number of channels");
    const Output to = output(out);
    py::gil_scoped_release release;
    const auto count = static_cast<size_t>(a.size());
    if (to.values) {
        slt::add_int8(a.data(), b.data(), count, requantiser, to.values, work.ops);
    } else {
        slt::add_int8(a.data(), b.data(), count, requantiser, to.logits, work.ops);
    }
}

void relu(Workspace& work, const Bytes& x, Bytes out) {
    if (x.size() != out.size()) refuse("sizes differ");
    int8_t* to = out.mutable_data();
    py::gil_scoped_release release;
    work.ops.relu_bytes(x.data(), static_cast<size_t>(x.size()), to);
}

// Values of any signed integer type, as int64.
py::array_t<int64_t, py::array::forcecast> integers(const py::array& values, const char* name) {
    if (values.dtype().kind() != 'i' || values.ndim() != 1)
        refuse(std::string(name) + " must be a vector of signed integers");
    return py::array_t<int64_t, py::array::forcecast>::ensure(values);
}

Requantiser make_requantiser(const py::array& m, const py::array& b, int64_t s, int64_t m_r,
                             int64_t low) {
    const auto factors = integers(m, "m"), shifts = integers(b, "b");
    return Requantiser({factors.data(), factors.data() + factors.size()},
                       {shifts.data(), shifts.data() + shifts.size()}, s, m_r, low);
}

}  // namespace

void bind_int8(py::module_& module) {
    using py::arg;
    py::class_<Requantiser>(
        module, "Requantiser",
        "int32 sums to int8: clamp((acc * m + r * m_r + b + ((1 << s) >> 1)) >> s, low, 127).")
        .def(py::init(&make_requantiser), arg("m"), arg("b"), arg("s"), arg("m_r") = 0,
             arg("low") = -127)
        .def_property_readonly("channels", &Requantiser::channels);
    py::class_<Int8Layer>(module, "Int8Layer",
                          "One layer's weights in the form its int8 kernel reads, and the kernel.")
        .def(py::init(&make_layer), arg("code").none(false), arg("keep"), arg("kernel"),
             arg("image"), arg("kernel_size"), arg("groups"), arg("stride"), arg("padding"),
             arg("work"))
        .def_property_readonly("kept", &Int8Layer::kept_name)
        .def_property_readonly("resident_bytes", &Int8Layer::resident_bytes)
        .def(
            "scratch_bytes",
            [](const Int8Layer& layer, const Workspace& work) {
                return layer.scratch_bytes(work.ops) * work.threads.count();
            },
            arg("work"), "Bytes of activations in other layouts for one image, at most.")
        .def("conv2d", &conv2d, arg("work"), arg("x").noconvert(), arg("out").noconvert(),
             arg("requantiser"), arg("residual").noconvert() = py::none(),
             "x int8 [n, channels, height, width] to out, int8 or, for logits, int32.")
        .def("linear", &linear, arg("work"), arg("x").noconvert(), arg("out").noconvert(),
             arg("requantiser"), arg("residual").noconvert() = py::none(),
             "x int8 [n, K] to out [n, out], int8 or, for logits, int32.");
    module.def("quantise", &quantise, arg("work"), arg("x").noconvert(), arg("scale"),
               arg("out").noconvert(), "clamp(rint(x / scale), -127, 127), ties to even.");
    module.def("max_pool2d_int8", &max_pool2d, arg("work"), arg("x").noconvert(),
               arg("out").noconvert(), arg("kernel"), arg("stride"), arg("padding"));
    module.def("sum_pool2d_int8", &sum_pool2d, arg("work"), arg("x").noconvert(),
               arg("out").noconvert(), arg("kernel"), arg("stride"), arg("padding"),
               arg("requantiser"));
    module.def("global_sum_int8", &global_sum, arg("x").noconvert(), arg("out").noconvert(),
               arg("requantiser"));
    module.def("add_int8", &add, arg("work"), arg("a").noconvert(), arg("b").noconvert(),
               arg("out").noconvert(), arg("requantiser"), "The requantiser with acc = a, r = b.");
    module.def("relu_int8", &relu, arg("work"), arg("x").noconvert(), arg("out").noconvert());
}
