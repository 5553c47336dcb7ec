// Pipes, character devices, and sockets used one way.
#include "net/pipe_transport.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pyev::net {

using py::Ref;

static ssize_t pipe_read(int fd, void* buffer, size_t size) { return ::read(fd, buffer, size); }
static ssize_t pipe_write(int fd, const iovec* vectors, int count) {
    return writev(fd, vectors, count);
}

template <class T>
static constexpr Stream::Device pipe_device = {
    KindOf<T>::value,
    pipe_read,
    pipe_write,
    [](int) { return 0; },  // closing it is what tells the other end
    nullptr,
    "Fatal read error on pipe transport",
    "Fatal write error on pipe transport",
    "pipe closed by peer or os.write(pipe, data) raised exception.",
    true,
};

ReadPipeTransport::ReadPipeTransport() : Stream(&pipe_device<ReadPipeTransport>) {}
WritePipeTransport::WritePipeTransport() : Stream(&pipe_device<WritePipeTransport>) {}

// The kind of file, if it can be a pipe transport; else 0 and an exception.
static mode_t prepare(int fd, const char* refusal) {
    struct stat status;
    if (fstat(fd, &status) != 0) return py::raise_errno(errno);
    mode_t mode = status.st_mode;
    if (!S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode))
        return py::raise(PyExc_ValueError, refusal);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return py::raise_errno(errno);
    return mode & S_IFMT;
}

// Whether each write is a message of its own for whoever reads.
static bool keeps_apart(int fd, mode_t mode) {
    if (S_ISCHR(mode)) return true;
#ifdef O_DIRECT
    if (S_ISFIFO(mode)) return fcntl(fd, F_GETFL) & O_DIRECT;
#endif
    int type = 0;
    socklen_t size = sizeof type;
    return S_ISSOCK(mode) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           type != SOCK_STREAM;
}

template <class T>
static Ref create(PyObject* type) {
    return Ref::steal(
        py::Slots<T>::create(reinterpret_cast<PyTypeObject*>(type), nullptr, nullptr));
}

Ref ReadPipeTransport::make(State& state, const Parts& parts) {
    if (!prepare(parts.fd, "Pipe transport is for pipes/sockets only.")) return {};
    Ref self = create<ReadPipeTransport>(state.read_pipe_transport.get());
    return self && py::value_of<ReadPipeTransport>(self.get())->open(parts) ? self : Ref();
}

Ref WritePipeTransport::make(State& state, const Parts& parts) {
    mode_t mode =
        prepare(parts.fd, "Pipe transport is only for pipes, sockets and character devices");
    if (!mode) return {};
    Ref self = create<WritePipeTransport>(state.write_pipe_transport.get());
    if (!self) return {};
    auto* value = py::value_of<WritePipeTransport>(self.get());
    value->tells_hang_up_ = !S_ISCHR(mode);
    value->apart_ = keeps_apart(parts.fd, mode);
    return value->open(parts) ? self : Ref();
}

void WritePipeTransport::started() {
    if (tells_hang_up_) watch(watched() | EV_READ);
}

// A write end becomes readable when nobody reads any more.
bool WritePipeTransport::ready(int revents) {
    if (!(revents & EV_READ)) return Stream::ready(revents);
    note("was closed by peer");
    Ref error = Ref::none();
    if (unsent()) error = Ref::steal(PyObject_CallNoArgs(PyExc_BrokenPipeError));
    return error && force_close(error.get());
}

static PyMethodDef write_methods[] = {
    py::noargs<&WritePipeTransport::write_eof>("write_eof", R"(write_eof($self, /)
--

The same as close(): that is how a pipe tells its end. asyncio: WriteTransport.write_eof.)"),
    {nullptr, nullptr, 0, nullptr},
};

const py::TypeInfo ReadPipeTransport::kType = {
    "pyev.ReadPipeTransport",
    "The end of a pipe that is read. asyncio: ReadTransport.",
    Stream::kMethods,
    Flow::kAttributes,
};

const py::TypeInfo WritePipeTransport::kType = {
    "pyev.WritePipeTransport",
    "The end of a pipe that is written. asyncio: WriteTransport.",
    write_methods,
    Flow::kAttributes,
};

Ref ReadPipeTransport::make_type(PyObject* module, PyObject* bases) {
    return py::make_type<ReadPipeTransport, true>(module, bases,
                                                  {Flow::kReadMethods, Flow::kMethods});
}

Ref WritePipeTransport::make_type(PyObject* module, PyObject* bases) {
    return py::make_type<WritePipeTransport, true>(
        module, bases, {Stream::kWriteMethods, Stream::kMethods, Flow::kMethods});
}

}  // namespace pyev::net
