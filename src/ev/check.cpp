// Check: libev's ev_check.
#include "ev/check.hpp"

namespace pyev::ev {

const py::TypeInfo Check::kType = {kName, "", nullptr, nullptr};

}  // namespace pyev::ev
