// The monotonic clock.
#pragma once

#include <time.h>

#include <cstdint>

namespace pyev::py {

// Seconds on a clock that nobody sets.
inline double monotonic() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Of the same clock, some milliseconds late, at a fraction of the price.
inline int64_t coarse_milliseconds() {
#ifdef CLOCK_MONOTONIC_COARSE
    timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
#else
    return static_cast<int64_t>(monotonic() * 1000);
#endif
}

}  // namespace pyev::py
