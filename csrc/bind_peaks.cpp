// The measured bounds of the machine in slt_infer._core.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "isa.h"
#include "peaks.h"

namespace py = pybind11;

namespace {

py::dict peaks(const std::string& isa, double seconds) {
    if (!(seconds >= 0 && seconds <= 60)) throw std::invalid_argument("seconds must be 0 to 60");
    const slt::Ops& ops = slt::ops(isa);
    slt::Peaks found;
    {
        py::gil_scoped_release release;
        found = slt::measure_peaks(ops, seconds);
    }
    py::dict answer;
    answer["isa"] = ops.name;
    answer["add_f32"] = found.add_f32;
    answer["add_i16"] = found.add_i16;
    answer["add_load_f32"] = found.add_load_f32;
    answer["add_load_i16"] = found.add_load_i16;
    answer["dot"] = found.dot;
    answer["l1"] = found.l1;
    answer["l2"] = found.l2;
    answer["memory"] = found.memory;
    return answer;
}

}  // namespace

void bind_peaks(py::module_& module) {
    using py::arg;
    module.def("peaks", &peaks, arg("isa") = "", arg("seconds") = 0.01,
               "Additions, multiply-accumulates and bytes a second that one thread reaches at "
               "most, measured for so many seconds each.");
}
