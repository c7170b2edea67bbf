#include "isa.h"

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace slt {
namespace {

std::string names(const std::vector<const Ops*>& tables) {
    std::string text;
    for (const Ops* table : tables) text += (text.empty() ? "" : ", ") + std::string(table->name);
    return text;
}

const Ops* find(std::string_view name) {
    for (const Ops* table : available_ops()) {
        if (name == table->name) return table;
    }
    return nullptr;
}

[[maybe_unused]] Ops with_dot(Ops table, const char* name, const DotKernels& kernels) {
    table.name = name;
    table.dot_tile = kernels.tile;
    table.dot_columns = kernels.columns;
    return table;
}

struct Choice {
    const Ops* ops;
    std::string reason;
};

Choice choose() {
    const char* wanted = std::getenv("SLT_ISA");
    if (wanted == nullptr || *wanted == 0) {
        return {available_ops().back(),
                "the best of " + names(available_ops()) + ", which this machine runs"};
    }
    const Ops* table = find(wanted);
    if (table == nullptr) {
        throw std::runtime_error("SLT_ISA names \"" + std::string(wanted) +
                                 "\"; available here are " + names(available_ops()));
    }
    return {table, "SLT_ISA names it"};
}

const Choice& choice() {
    static const Choice chosen = choose();
    return chosen;
}

}  // namespace

const std::vector<const Ops*>& available_ops() {
    static const std::vector<const Ops*> tables = [] {
        std::vector<const Ops*> found = {&scalar_ops};
#if defined(__x86_64__)
        // The compiler's run-time library asks cpuid and, for AVX and AVX-512, whether the OS saves
        // the registers.
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                          __builtin_cpu_supports("bmi2");
        if (avx2) found.push_back(&avx2_ops);
        if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512cd")) {
            found.push_back(&avx512_ops);
            if (__builtin_cpu_supports("avx512vnni")) {
                static const Ops vnni = with_dot(avx512_ops, "avx512vnni", avx512vnni_kernels);
                found.push_back(&vnni);
            }
        }
#elif defined(__aarch64__)
        found.push_back(&neon_ops);
#if defined(__linux__)
        if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) {
            static const Ops dot = with_dot(neon_ops, "neondot", neondot_kernels);
            found.push_back(&dot);
        }
#endif
#endif
        return found;
    }();
    return tables;
}

const Ops& ops() { return *choice().ops; }

const Ops& ops(std::string_view name) {
    if (name.empty()) return ops();
    const Ops* table = find(name);
    if (table == nullptr) {
        throw std::invalid_argument("isa \"" + std::string(name) +
                                    "\" is not available; there are " + names(available_ops()));
    }
    return *table;
}

const char* choice_reason() { return choice().reason.c_str(); }

const char* cpu_architecture() {
#if defined(__x86_64__)
    return "x86-64";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "other";
#endif
}

std::string cpu_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.rfind("model name", 0) != 0) continue;
        const size_t colon = line.find(": ");
        return colon == std::string::npos ? "" : line.substr(colon + 2);
    }
    return "";
}

std::vector<const char*> cpu_features() {
    std::vector<const char*> features;
#if defined(__x86_64__)
#define SLT_FEATURE(name) \
    if (__builtin_cpu_supports(name)) features.push_back(name)
    __builtin_cpu_init();
    SLT_FEATURE("sse4.2");
    SLT_FEATURE("popcnt");
    SLT_FEATURE("avx");
    SLT_FEATURE("avx2");
    SLT_FEATURE("bmi");
    SLT_FEATURE("bmi2");
    SLT_FEATURE("fma");
    SLT_FEATURE("avx512f");
    SLT_FEATURE("avx512bw");
    SLT_FEATURE("avx512dq");
    SLT_FEATURE("avx512vl");
    SLT_FEATURE("avx512cd");
    SLT_FEATURE("avx512vnni");
    SLT_FEATURE("avx512vbmi");
    SLT_FEATURE("avx512vpopcntdq");
#undef SLT_FEATURE
#elif defined(__aarch64__)
    features.push_back("neon");
#if defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_CRC32) features.push_back("crc32");
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) features.push_back("dotprod");
#endif
#endif
    return features;
}

}  // namespace slt
