// The monotonic clock.
#pragma once

#include <time.h>

namespace pyev::py {

// Seconds on a clock that nobody sets.
inline double monotonic() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace pyev::py
