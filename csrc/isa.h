// The choice among the tables of ops.h at run time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ops.h"

namespace slt {

// The table chosen for this process: the best the machine runs, or the one that SLT_ISA names (an
// unknown or unsupported name: std::runtime_error that lists the available ones).
const Ops& ops();
// The table of that name, "" for the chosen one; std::invalid_argument where this machine cannot
// run it.
const Ops& ops(std::string_view name);
// All tables this machine can run, scalar first, best last.
const std::vector<const Ops*>& available_ops();
// What the machine has, for `slt-inspect --machine`.
std::vector<const char*> cpu_features();
const char* cpu_architecture();
std::string cpu_name();  // as the OS gives it, or empty
// Why ops() is what it is.
const char* choice_reason();

}  // namespace slt
