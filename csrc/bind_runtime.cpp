// The runtime's part of slt_infer._core: layers and operators on float32 NumPy arrays, which must
// be contiguous. Sizes are checked here, the kernels trust them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include "conv.h"

namespace py = pybind11;

namespace {

using slt::LayerWeights;
using slt::Workspace;
using Floats = py::array_t<float, py::array::c_style>;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void check_shape(const Floats& array, std::initializer_list<size_t> shape, const char* name) {
    bool fits = static_cast<size_t>(array.ndim()) == shape.size();
    py::ssize_t axis = 0;
    for (size_t size : shape) fits = fits && static_cast<size_t>(array.shape(axis++)) == size;
    if (!fits) refuse(std::string(name) + " has a wrong shape");
}

size_t images_of(const Floats& x, py::ssize_t dimensions) {
    if (x.ndim() != dimensions) refuse("x must have " + std::to_string(dimensions) + " dimensions");
    return static_cast<size_t>(x.shape(0));
}

slt::Epilogue epilogue(const std::optional<Floats>& scale, const std::optional<Floats>& shift,
                       bool relu, size_t out) {
    slt::Epilogue result;
    result.relu = relu;
    if (!scale && (shift || relu)) refuse("shift and relu need a scale");
    if (scale) check_shape(*scale, {out}, "scale"), result.scale = scale->data();
    if (shift) check_shape(*shift, {out}, "shift"), result.shift = shift->data();
    return result;
}

std::unique_ptr<LayerWeights> make_layer(std::shared_ptr<slt::LayerCode> code,
                                         const std::string& keep, std::array<uint32_t, 3> image,
                                         std::array<uint32_t, 2> kernel, uint32_t groups,
                                         uint32_t stride, uint32_t padding, Workspace& work) {
    slt::ConvShape shape{image[0],  image[1], image[2], kernel[0],
                         kernel[1], groups,   stride,   padding};
    if (stride == 0 || groups == 0 || image[0] % groups)
        refuse("stride and groups must be at least 1 and fit");
    if (uint64_t{image[1]} + 2 * uint64_t{padding} < kernel[0] ||
        uint64_t{image[2]} + 2 * uint64_t{padding} < kernel[1]) {
        refuse("the kernel does not fit into the image");
    }
    const auto form = keep == "none"     ? LayerWeights::Keep::none
                      : keep == "planes" ? LayerWeights::Keep::planes
                      : keep == "lists"  ? LayerWeights::Keep::lists
                                         : (refuse("keep must be none, planes or lists"),
                                            LayerWeights::Keep::none);
    py::gil_scoped_release release;
    return std::make_unique<LayerWeights>(std::move(code), form, shape, work);
}

void conv2d(const LayerWeights& layer, Workspace& work, const Floats& x, Floats out,
            const std::optional<Floats>& scale, const std::optional<Floats>& shift, bool relu) {
    const slt::ConvShape& s = layer.shape();
    const size_t n = images_of(x, 4);
    check_shape(x, {n, s.channels, s.height, s.width}, "x");
    check_shape(out, {n, layer.out(), s.out_rows(), s.out_columns()}, "out");
    const slt::Epilogue end = epilogue(scale, shift, relu, layer.out());
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    layer.conv2d(x.data(), n, end, to, work);
}

void linear(const LayerWeights& layer, Workspace& work, const Floats& x, Floats out,
            const std::optional<Floats>& scale, const std::optional<Floats>& shift, bool relu) {
    const size_t n = images_of(x, 2);
    check_shape(x, {n, layer.fan_in()}, "x");
    check_shape(out, {n, layer.out()}, "out");
    const slt::Epilogue end = epilogue(scale, shift, relu, layer.out());
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    layer.linear(x.data(), n, end, to, work);
}

using Pool = void (*)(const float*, size_t, const slt::PoolShape&, float*, slt::Threads&);

template <Pool pool>
void pool2d(Workspace& work, const Floats& x, Floats out, uint32_t kernel, uint32_t stride,
            uint32_t padding) {
    const size_t n = images_of(x, 4);
    const auto size = [&](int axis) { return static_cast<uint32_t>(x.shape(axis)); };
    const slt::PoolShape shape{size(1), size(2), size(3), kernel, stride, padding};
    if (kernel == 0 || stride == 0 || padding > kernel / 2)
        refuse("kernel and stride must be at least 1, padding at most kernel / 2");
    if (uint64_t{size(2)} + 2 * padding < kernel || uint64_t{size(3)} + 2 * padding < kernel) {
        refuse("the kernel does not fit into the image");
    }
    check_shape(out, {n, shape.channels, shape.out_rows(), shape.out_columns()}, "out");
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    pool(x.data(), n * shape.channels, shape, to, work.threads);
}

void global_avg_pool2d(const Floats& x, Floats out) {
    const size_t n = images_of(x, 4), channels = static_cast<size_t>(x.shape(1));
    check_shape(out, {n, channels}, "out");
    const size_t pixels = static_cast<size_t>(x.shape(2)) * static_cast<size_t>(x.shape(3));
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    slt::global_avg_pool2d(x.data(), n * channels, pixels, to);
}

void add(Workspace& work, const Floats& a, const Floats& b, Floats out, bool relu) {
    if (a.size() != b.size() || a.size() != out.size()) refuse("sizes differ");
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    work.ops.add_floats(a.data(), b.data(), static_cast<size_t>(a.size()), relu, to);
}

void relu(Workspace& work, const Floats& x, Floats out) {
    if (x.size() != out.size()) refuse("sizes differ");
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    work.ops.relu_floats(x.data(), static_cast<size_t>(x.size()), to);
}

void scale_shift(Workspace& work, const Floats& x, const Floats& scale,
                 const std::optional<Floats>& shift, Floats out) {
    if (x.ndim() < 2 || x.size() != out.size())
        refuse("x and out must have one shape, [n, channels, ...]");
    const auto n = static_cast<size_t>(x.shape(0)), channels = static_cast<size_t>(x.shape(1));
    const slt::Epilogue e = epilogue(scale, shift, false, channels);
    const size_t pixels = x.size() ? static_cast<size_t>(x.size()) / (n * channels) : 0;
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    for (size_t i = 0; i < n * channels; ++i) {
        const size_t c = i % channels;
        work.ops.scale_shift(x.data() + i * pixels, pixels, e.scale[c],
                             e.shift ? e.shift + c : nullptr, false, to + i * pixels);
    }
}

}  // namespace

void bind_runtime(py::module_& module) {
    using py::arg;
    py::class_<Workspace>(module, "Workspace",
                          "Threads, ISA and scratch memory of a plan; for one call at a time.")
        .def(py::init(
                 [](const slt::WeightMemoryPtr& memory, uint32_t threads, const std::string& isa) {
                     if (threads < 1 || threads > 1024) refuse("threads must be 1 to 1024");
                     return std::make_unique<Workspace>(memory, threads, slt::ops(isa));
                 }),
             arg("memory").none(false), arg("threads") = 1, arg("isa") = "")
        .def_property_readonly("isa", [](const Workspace& work) { return work.ops.name; })
        .def_property_readonly("threads",
                               [](const Workspace& work) { return work.threads.count(); });
    py::class_<LayerWeights>(module, "LayerWeights",
                             "One layer's weights in the form its kernel reads, and the kernel.")
        .def(py::init(&make_layer), arg("code").none(false), arg("keep"), arg("image"),
             arg("kernel"), arg("groups"), arg("stride"), arg("padding"), arg("work"))
        .def_property_readonly("kept", &LayerWeights::kept_name)
        .def_property_readonly("resident_bytes", &LayerWeights::resident_bytes)
        .def(
            "scratch_bytes",
            [](const LayerWeights& layer, const Workspace& work) {
                return layer.scratch_bytes(work.ops) * work.threads.count();
            },
            arg("work"), "Bytes of activations in other layouts for one image, at most.")
        .def(
            "conv2d", &conv2d, arg("work"), arg("x").noconvert(), arg("out").noconvert(),
            arg("scale") = py::none(), arg("shift") = py::none(), arg("relu") = false,
            "x float32 [n, channels, height, width] to out; without scale the sums of +-1 weights.")
        .def("linear", &linear, arg("work"), arg("x").noconvert(), arg("out").noconvert(),
             arg("scale") = py::none(), arg("shift") = py::none(), arg("relu") = false,
             "x float32 [n, K] to out [n, out].");
    module.def("max_pool2d", &pool2d<slt::max_pool2d>, arg("work"), arg("x").noconvert(),
               arg("out").noconvert(), arg("kernel"), arg("stride"), arg("padding"));
    module.def("avg_pool2d", &pool2d<slt::avg_pool2d>, arg("work"), arg("x").noconvert(),
               arg("out").noconvert(), arg("kernel"), arg("stride"), arg("padding"));
    module.def("global_avg_pool2d", &global_avg_pool2d, arg("x").noconvert(),
               arg("out").noconvert());
    module.def("add", &add, arg("work"), arg("a").noconvert(), arg("b").noconvert(),
               arg("out").noconvert(), arg("relu") = false);
    module.def("relu", &relu, arg("work"), arg("x").noconvert(), arg("out").noconvert());
    module.def("scale_shift", &scale_shift, arg("work"), arg("x").noconvert(), arg("scale"),
               arg("shift"), arg("out").noconvert(),
               "out [n, channels, ...] = x * scale + shift, per channel; shift may be None.");
}
