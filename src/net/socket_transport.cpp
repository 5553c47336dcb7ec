// TCP and unix stream sockets.
#include "net/socket_transport.hpp"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace pyev::net {

using py::Ref;

static ssize_t socket_read(int fd, void* buffer, size_t size) { return recv(fd, buffer, size, 0); }

static ssize_t socket_write(int fd, const iovec* vectors, int count) {
    if (count == 1) return ::send(fd, vectors->iov_base, vectors->iov_len, MSG_NOSIGNAL);
    msghdr message = {};
    message.msg_iov = const_cast<iovec*>(vectors);
    message.msg_iovlen = static_cast<size_t>(count);
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

// Linux tells what it counts, and by what it decides whether to take more.
static size_t socket_room([[maybe_unused]] int fd) {
#ifdef SO_MEMINFO
    uint32_t counts[9] = {};  // the kernel's SK_MEMINFO_VARS
    constexpr int kSendBuffer = 3, kSent = 2, kQueued = 5;
    socklen_t size = sizeof counts;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, counts, &size) != 0) return 0;
    uint32_t used = std::max(counts[kSent], counts[kQueued]);
    return used < counts[kSendBuffer] ? counts[kSendBuffer] - used : 0;
#else
    return 0;
#endif
}

static constexpr Stream::Device socket_device = {
    KindOf<SocketTransport>::value,
    socket_read,
    socket_write,
    [](int fd) { return shutdown(fd, SHUT_WR); },
    socket_room,
    "Fatal read error on socket transport",
    "Fatal write error on socket transport",
    "socket.send() raised exception.",
    false,
};

SocketTransport::SocketTransport() : Stream(&socket_device) {}

Ref SocketTransport::make(State& state, const Parts& parts) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.socket_transport.get());
    Ref self = Ref::steal(py::Slots<SocketTransport>::create(type, nullptr, nullptr));
    if (!self) return {};
    auto* value = py::value_of<SocketTransport>(self.get());
    if (!value->note_addresses(parts) || !value->open(parts)) return {};
    // Small writes leave at once, as asyncio has it. Other kinds of sockets refuse.
    int on = 1;
    (void)setsockopt(parts.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return self;
}

static PyMethodDef methods[] = {
    py::noargs<&Stream::write_eof>("write_eof", R"(write_eof($self, /)
--

Tell the other end, after what is written, that no more comes. asyncio: WriteTransport.write_eof.)"),
    py::noargs<&Stream::make_empty_waiter>("_make_empty_waiter",
                                           "_make_empty_waiter($self, /)\n--\n\nA future, done "
                                           "when all is sent; no writes until then."),
    py::noargs<&Stream::reset_empty_waiter>(
        "_reset_empty_waiter", "_reset_empty_waiter($self, /)\n--\n\nAllow writes again."),
    {nullptr, nullptr, 0, nullptr},
};

const py::TypeInfo SocketTransport::kType = {
    "pyev.SocketTransport",
    "A connected stream socket: TCP, unix, or any other kind. asyncio: Transport.",
    methods,
    Flow::kAttributes,
};

Ref SocketTransport::make_type(PyObject* module, PyObject* base) {
    Ref type = py::make_type<SocketTransport, true>(
        module, base,
        {Stream::kWriteMethods, Stream::kMethods, Flow::kReadMethods, Flow::kMethods});
    return type && allow_upgrades(type.get(), "TRY_NATIVE") ? type : Ref();
}

}  // namespace pyev::net
