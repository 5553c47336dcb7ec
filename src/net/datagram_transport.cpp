// UDP and unix datagram sockets.
#include "net/datagram_transport.hpp"

#include <errno.h>
#include <sys/socket.h>

namespace pyev::net {

using py::Ref;

// Datagrams read by one system call, into equal parts of the loop's buffer: 64 KiB hold any of UDP.
static constexpr unsigned kBatch = 4;

// Datagrams read for one event, so that a flood leaves the others their turn.
static constexpr unsigned kPerEvent = 64;

// asyncio counts so many bytes more for each datagram that waits.
static constexpr size_t kOverhead = 8;

static constexpr Transport::Kind kind_table = KindOf<DatagramTransport>::value;

DatagramTransport::DatagramTransport() : Flow(&kind_table) {}

Ref DatagramTransport::make(State& state, const Parts& parts, PyObject* address) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.datagram_transport.get());
    Ref object = Ref::steal(py::Slots<DatagramTransport>::create(type, nullptr, nullptr));
    if (!object) return {};
    auto* self = py::value_of<DatagramTransport>(object.get());
    self->address_ = Ref::borrow(address);
    if (!self->note_addresses(parts) || !self->open(parts)) return {};
    self->connected_ = self->has_peer();
    socklen_t size = sizeof self->family_;
    if (getsockopt(parts.fd, SOL_SOCKET, SO_DOMAIN, &self->family_, &size) != 0)
        self->family_ = AF_UNSPEC;
    return object;
}

// Reading.

bool DatagramTransport::ready(int revents) {
    if (revents & EV_READ && !read()) return false;
    return !(revents & EV_WRITE) || lost_ || !blocked() || send_queue();
}

// The address as Python has it. A sender is often the same as before.
Ref DatagramTransport::sender(const Address& address) {
    if (known_ && spelled_ && address == known_address_) return known_;
    Ref converted = to_python(address);
    if (converted && address.size) {
        known_ = converted;
        known_address_ = address;
        spelled_ = true;
    }
    return converted;
}

bool DatagramTransport::read() {
    if (unread_) return deliver_unread();
    bool inet = family_ == AF_INET || family_ == AF_INET6;
    if (!inet && family_ != AF_UNIX) return read_by_socket();
    char* buffer = loop()->read_buffer();
    if (!buffer) return false;
    // A unix datagram may be larger than a part of the buffer.
    unsigned batch = inet ? kBatch : 1;
    size_t most = aio::LoopBase::kReadSize / batch;
    Address addresses[kBatch];
    for (unsigned read = 0; read < kPerEvent && reading(); read += batch) {
        mmsghdr messages[kBatch] = {};
        iovec vectors[kBatch];
        for (unsigned i = 0; i < batch; ++i) {
            vectors[i] = {buffer + i * most, most};
            messages[i].msg_hdr.msg_name = &addresses[i].any;
            messages[i].msg_hdr.msg_namelen = sizeof addresses[i].bytes;
            messages[i].msg_hdr.msg_iov = &vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        int count = recvmmsg(fd(), messages, batch, 0, nullptr);
        if (count < 0) {
            if (again(errno)) return true;
            (void)py::raise_errno(errno);
            return read_failed();
        }
        // The buffer is the loop's: whoever is called may use it, so copy all out of it first.
        Ref data[kBatch];
        for (int i = 0; i < count; ++i) {
            data[i] =
                Ref::steal(PyBytes_FromStringAndSize(buffer + static_cast<unsigned>(i) * most,
                                                     static_cast<Py_ssize_t>(messages[i].msg_len)));
            addresses[i].size = messages[i].msg_hdr.msg_namelen;
        }
        for (int i = 0; i < count; ++i) {
            Ref address = sender(addresses[i]);
            if (!data[i] || !address) return fatal("Fatal read error on datagram transport");
            if (deliver(data[i].get(), address.get())) continue;
            py::ErrorGuard guard;
            while (++i < count) {
                Ref later = sender(addresses[i]);
                if (!data[i] || !later || !keep_unread(data[i].get(), later.get())) PyErr_Clear();
            }
            deliver_later();
            return false;
        }
        if (static_cast<unsigned>(count) < batch) return true;
    }
    return true;
}

// What the socket module alone knows to convert the addresses of.
bool DatagramTransport::read_by_socket() {
    Ref given = Ref::steal(PyObject_CallMethod(socket_.get(), "recvfrom", "n",
                                               static_cast<Py_ssize_t>(aio::LoopBase::kReadSize)));
    Ref pair = given ? Ref::steal(PySequence_Tuple(given.get())) : Ref();
    if (pair && PyTuple_GET_SIZE(pair.get()) == 2)
        return deliver(PyTuple_GET_ITEM(pair.get(), 0), PyTuple_GET_ITEM(pair.get(), 1));
    if (pair) PyErr_Format(PyExc_ValueError, "recvfrom() returned no pair but %R", given.get());
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError)) return read_failed();
    PyErr_Clear();
    return true;
}

// An exception is set.
bool DatagramTransport::read_failed() {
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return fatal("Fatal read error on datagram transport");
    Ref error = Ref::steal(py::take_raised());
    py::Handling handling(error.get());
    return call_protocol(Name::error_received, error.get()) ||
           report("Exception in protocol.error_received()");
}

// False: what is set leaves run_forever().
bool DatagramTransport::deliver(PyObject* data, PyObject* address) {
    if (closing_) return true;
    if (!reading()) return keep_unread(data, address);
    return call_protocol(Name::datagram_received, data, address) ||
           report("Exception in protocol.datagram_received()");
}

bool DatagramTransport::keep_unread(PyObject* data, PyObject* address) {
    if (!unread_) unread_ = Ref::steal(PyList_New(0));
    Ref pair = Ref::steal(PyTuple_Pack(2, data, address));
    return unread_ && pair && PyList_Append(unread_.get(), pair.get()) == 0;
}

// What had been read when pause_reading() was called comes first, in a turn of its own.
Ref DatagramTransport::resume_reading() {
    Ref done = Flow::resume_reading();
    deliver_later();
    return done;
}

// In the next turn, or when the loop that is being left runs again.
void DatagramTransport::deliver_later() {
    if (unread_ && reading()) note_events(EV_READ);
}

bool DatagramTransport::deliver_unread() {
    Ref unread = std::move(unread_);
    if (!unread) return true;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(unread.get()); ++i) {
        PyObject* pair = PyList_GET_ITEM(unread.get(), i);
        if (deliver(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1))) continue;
        py::ErrorGuard guard;
        if (PyList_SetSlice(unread.get(), 0, i + 1, nullptr) == 0) unread_ = unread;
        deliver_later();
        return false;
    }
    return true;
}

// Writing.

DatagramTransport::Sent DatagramTransport::send(PyObject* data, PyObject* address) {
    Py_buffer view;  // first: to get it may run code that sends another one
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return Sent::kFailed;
    Address* to = nullptr;
    // Without an address the kernel knows best: the end of a socketpair is connected to no name.
    if (!connected_ && address != Py_None) {
        if (address != known_.get()) {
            Address converted;
            if (!from_python(address, family_, converted)) {
                PyBuffer_Release(&view);
                return send_by_socket(data, address);
            }
            known_ = Ref::borrow(address);
            known_address_ = converted;
            spelled_ = family_ == AF_INET;  // IPv6 has several ways to write one down
        }
        to = &known_address_;
    }
    loop()->poll_next();
    ssize_t sent = ::sendto(fd(), view.buf, static_cast<size_t>(view.len), MSG_NOSIGNAL,
                            to ? &to->any : nullptr, to ? to->size : 0);
    int number = errno;
    PyBuffer_Release(&view);
    if (sent >= 0) return Sent::kYes;
    if (again(number)) return Sent::kLater;
    (void)py::raise_errno(number);
    return Sent::kFailed;
}

DatagramTransport::Sent DatagramTransport::send_by_socket(PyObject* data, PyObject* address) {
    Ref socket = socket_;
    Ref sent = py::call_method(socket.get(), name(Name::sendto), data, address);
    if (sent) return Sent::kYes;
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError)) return Sent::kFailed;
    PyErr_Clear();
    return Sent::kLater;
}

bool DatagramTransport::failed() {
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return fatal("Fatal write error on datagram transport");
    Ref error = Ref::steal(py::take_raised());
    py::Handling handling(error.get());
    Ref protocol = protocol_;
    return static_cast<bool>(
        py::call_method(protocol.get(), name(Name::error_received), error.get()));
}

Ref DatagramTransport::sendto(py::Args args) {
    static constexpr const char* names[] = {"data", "addr"};
    PyObject* slots[2] = {};
    if (!py::bind({"sendto", names, 2, 2, 1}, args, slots)) return {};
    PyObject* data = slots[0];
    Ref address = slots[1] ? Ref::borrow(slots[1]) : Ref::none();
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data))
        return py::raise(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                         Py_TYPE(data)->tp_name);
    if (address_ && address_.get() != Py_None) {
        int same = address.get() == Py_None ||
                   PyObject_RichCompareBool(address.get(), address_.get(), Py_EQ);
        if (same < 0) return {};
        if (!same)
            return py::raise(PyExc_ValueError, "Invalid address: must be None or %S",
                             address_.get());
        address = address_;
    }
    if (lost_) return note_late_write("socket.send() raised exception.") ? Ref::none() : Ref();
    if (!waits()) {
        Sent sent = send(data, address.get());
        if (sent == Sent::kYes) return Ref::none();
        if (sent == Sent::kFailed) return failed() ? Ref::none() : Ref();
    }
    Ref bytes = Ref::steal(PyBytes_FromObject(data));
    if (!bytes) return {};
    if (!queue_.push({bytes.get(), address.get()})) return {};
    size_ += static_cast<size_t>(PyBytes_GET_SIZE(bytes.get())) + kOverhead;
    bytes.release();
    address.release();
    watch(watched() | EV_WRITE);
    return pause_protocol(size_) ? Ref::none() : Ref();
}

bool DatagramTransport::send_queue() {
    while (waits()) {
        Datagram& first = queue_[first_];
        Ref data = Ref::borrow(first.data), address = Ref::borrow(first.address);
        Sent sent = send(data.get(), address.get());
        if (sent == Sent::kLater || lost_) break;
        drop_first();
        // The rest goes on with the next event.
        if (sent == Sent::kFailed)
            return failed() || report("Exception in protocol.error_received()");
    }
    return lost_ || (resume_protocol(size_) && settle());
}

void DatagramTransport::drop_first() {
    Datagram first = queue_[first_++];
    if (first_ * 2 >= queue_.size()) {  // each is moved once at most
        queue_.remove_first(first_);
        first_ = 0;
    }
    Ref data = Ref::steal(first.data), address = Ref::steal(first.address);
    size_ -= static_cast<size_t>(PyBytes_GET_SIZE(data.get())) + kOverhead;
}

void DatagramTransport::drop_unsent() {
    while (waits()) drop_first();
}

bool DatagramTransport::settle() {
    if (lost_ || waits()) return true;
    watch(watched() & ~EV_WRITE);
    return !closing_ || lose(nullptr);
}

Ref DatagramTransport::close() {
    if (closing_) return Ref::none();
    closing_ = true;
    watch(watched() & ~EV_READ);
    return settle() ? Ref::none() : Ref();
}

Ref DatagramTransport::set_write_buffer_limits(py::Args args) {
    return set_limits(args) && pause_protocol(size_) ? Ref::none() : Ref();
}

Ref DatagramTransport::get_write_buffer_size() { return Ref::steal(PyLong_FromSize_t(size_)); }

static PyMethodDef methods[] = {
    py::fast<&DatagramTransport::sendto>("sendto", R"(sendto($self, data, addr=None)
--

Send a datagram, at once.

data: bytes, bytearray or memoryview; what has to wait is copied. addr: where to, as the socket
module has it; None for where the socket is connected to. Errors of the network go to the
protocol's error_received(). Raises TypeError for other data, ValueError for another address than
remote_addr. asyncio: DatagramTransport.sendto.)"),
    py::fast<&DatagramTransport::set_protocol>("set_protocol", R"(set_protocol($self, protocol)
--

Hand the endpoint over to another protocol. asyncio: BaseTransport.set_protocol.)"),
    py::noargs<&DatagramTransport::close>("close", R"(close($self, /)
--

Stop reading, send what waits, then close. asyncio: BaseTransport.close.)"),
    py::noargs<&DatagramTransport::resume_reading>("resume_reading", R"(resume_reading($self, /)
--

Let datagrams come in again. asyncio: ReadTransport.resume_reading.)"),
    py::fast<&DatagramTransport::set_write_buffer_limits>(
        "set_write_buffer_limits", R"(set_write_buffer_limits($self, high=None, low=None)
--

How many unsent bytes pause the protocol, and how few resume it.

Raises ValueError unless high >= low >= 0. asyncio: WriteTransport.set_write_buffer_limits.)"),
    py::noargs<&DatagramTransport::get_write_buffer_size>("get_write_buffer_size",
                                                          R"(get_write_buffer_size($self, /)
--

How many bytes wait for the kernel, 8 more for each datagram.)"),
    {nullptr, nullptr, 0, nullptr},
};

const py::TypeInfo DatagramTransport::kType = {
    "pyev.DatagramTransport",
    "A datagram socket: UDP, unix, or any other kind. asyncio: DatagramTransport.",
    methods,
    Flow::kAttributes,
};

Ref DatagramTransport::make_type(PyObject* module, PyObject* bases) {
    return py::make_type<DatagramTransport, true>(module, bases,
                                                  {Flow::kReadMethods, Flow::kMethods});
}

}  // namespace pyev::net
