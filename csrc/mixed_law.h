// The constants of the freeze law `mixed` (docs/format.md, section 3). A translation g of a block
// swaps its halves of 64 bits if g >= 64 and turns each left by g mod 64.
#pragma once

#include <stdint.h>

namespace slt {

// Planes 0 and 1 are A and C; T = A ^ C<33> ^ A<38>, U = C ^ A<95> ^ C<72>, W = A ^ A<109> ^ C<52>.
constexpr uint32_t kMixT[2] = {33, 38}, kMixU[2] = {95, 72}, kMixW[2] = {109, 52};

// Plane j is X<first> ^ Y<second>, X and Y being T and U up to plane 7, T and W up to 11, then U
// and W.
struct MixedPlane {
    uint32_t first, second;
};
constexpr MixedPlane kMixedPlanes[16] = {
    {0, 0},   {0, 0},   {0, 107},  {56, 8},  {120, 53}, {8, 25},  {48, 58},  {16, 101},
    {98, 51}, {45, 98}, {30, 120}, {57, 58}, {106, 33}, {85, 97}, {86, 113}, {29, 70}};

}  // namespace slt
