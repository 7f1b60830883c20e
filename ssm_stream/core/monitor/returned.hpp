// What machines of a pool often jump by while they are away: a tank that is filled up, a battery that is charged.
//
// Of a pause by itself such a jump is an anomaly, and each machine had to raise it several times before its bound gave way. But a pool
// that has seen it in some of its pauses knows it, on the side and about as far as it goes: what is taken out of the tank is another side.
#pragma once
#include "error_scale.hpp"

namespace ssm::SSM_ISA::returned {

constexpr double OFTEN = 3.0, MEMORY = 200.0;  // such jumps, of so many pauses
constexpr double SIZES = 20.0;                 // jumps that their size is the mean of
constexpr double AS_FAR = 1.5;                 // times that size

// Has a pool's machine come back like that before? Notes the pause. far: its error is an anomaly
SSM_INLINE bool as_before(const error_scale::Scale& s, double error, bool far) {
    double* jumped = s.pool_number + error_scale::JUMPED;  // of each side: how many, decayed; their size, in the target's unit
    jumped[0] *= 1.0 - 1.0 / MEMORY, jumped[2] *= 1.0 - 1.0 / MEMORY;
    if (!far) return false;
    double *side = jumped + (error > 0.0 ? 0 : 2), size = min(std::fabs(error), error_scale::LARGEST);
    const bool known = side[0] >= OFTEN && size <= AS_FAR * side[1];
    side[0] += 1.0;
    side[1] += (size - side[1]) / min(side[0], SIZES);
    return known;
}

}  // namespace ssm::SSM_ISA::returned
