// Prepare: libev's ev_prepare.
#include "ev/prepare.hpp"

namespace pyev::ev {

const py::TypeInfo Prepare::kType = {kName, "", nullptr, nullptr};

}  // namespace pyev::ev
