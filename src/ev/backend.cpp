// libev's backends and flags, by name.
#include "ev/backend.hpp"

#include "py/error.hpp"

namespace pyev::ev {

const char* backend_name(unsigned backend) {
    switch (backend) {
        case EVBACKEND_SELECT:
            return "select";
        case EVBACKEND_POLL:
            return "poll";
        case EVBACKEND_EPOLL:
            return "epoll";
        case EVBACKEND_KQUEUE:
            return "kqueue";
        case EVBACKEND_DEVPOLL:
            return "devpoll";
        case EVBACKEND_PORT:
            return "port";
        case EVBACKEND_LINUXAIO:
            return "linuxaio";
        case EVBACKEND_IOURING:
            return "io_uring";
        default:
            return "unknown";
    }
}

bool check_flags(const State& state, unsigned flags) {
    constexpr unsigned known = EVFLAG_NOENV | EVFLAG_FORKCHECK | EVFLAG_NOINOTIFY |
                               EVFLAG_SIGNALFD | EVFLAG_NOSIGMASK | EVFLAG_NOTIMERFD;
    if (flags & ~(known | EVBACKEND_MASK))
        return py::raise(state.error.get(), "unknown bits in the flags of a loop: %d",
                         static_cast<int>(flags & ~(known | EVBACKEND_MASK)));
    unsigned backends = flags & EVBACKEND_MASK;
    if (backends && !(backends & ev_supported_backends()))
        return py::raise(state.error.get(),
                         "this libev has none of the backends asked for (%d): `python -m pyev` "
                         "lists those that it has",
                         static_cast<int>(backends));
    return true;
}

}  // namespace pyev::ev
