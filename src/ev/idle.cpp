// Idle: libev's ev_idle.
#include "ev/idle.hpp"

namespace pyev::ev {

const py::TypeInfo Idle::kType = {kName, "", nullptr, nullptr};

}  // namespace pyev::ev
