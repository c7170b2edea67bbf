// In: how many words. Out: so many of the image's words from the first on.
#include "Vimage_words.h"
#include "bench.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vimage_words top{&context};
    uint64_t const words = number();
    for (uint64_t at = 0; at < words; ++at) {
        top.address = at;
        top.eval();
        printf("%u\n", static_cast<unsigned>(top.word));
    }
}
