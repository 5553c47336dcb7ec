// libev's backends and flags, by name.
#pragma once

#include <ev.h>

#include "ev/state.hpp"

namespace pyev::ev {

const char* backend_name(unsigned backend);

// Error when `flags` has unknown bits, or asks only for backends that this libev lacks.
[[nodiscard]] bool check_flags(const State& state, unsigned flags);

}  // namespace pyev::ev
