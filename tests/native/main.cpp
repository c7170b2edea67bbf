// Tests of csrc/ without Python, for sanitizers and for machines that are emulated: every ISA that
// this machine runs against the known answers and against the scalar twin. Usage: slt_tests
// FOLDER_OF_VECTORS
#include <cstdio>
#include <string>

#include "check.h"

namespace {

long checks = 0, failures = 0;

}  // namespace

void test::check(bool passed, const std::string& what) {
    ++checks;
    if (passed) return;
    if (++failures <= 20) std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: %s FOLDER_OF_VECTORS\n", arguments[0]);
        return 2;
    }
    test::known_answers(std::string(arguments[1]) + "/random123_kat.txt");
    test::planes();
    test::freeze_patterns();
    test::deposits();
    test::frequencies();
    test::coded_tiles();
    test::corrupted_tiles();
    test::tiles_together();
    test::layers();
    test::kernels();
    test::dot_kernels();
    test::int8_kernels();
    test::checksums();
    test::peaks();
    test::threads();
    std::string isas;
    for (const slt::Ops* ops : slt::available_ops()) isas += std::string(" ") + ops->name;
    std::printf("%ld checks, %ld failed; %s:%s\n", checks, failures, slt::cpu_architecture(),
                isas.c_str());
    return failures == 0 ? 0 : 1;
}
