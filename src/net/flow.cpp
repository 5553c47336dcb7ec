// Holding back what is read and written.
#include "net/flow.hpp"

#include <algorithm>
#include <cmath>

namespace pyev::net {

using py::Ref;

// Reading.

void Flow::started() {
    if (!paused_) watch(watched() | EV_READ);
}

Ref Flow::pause_reading() {
    if (!reading()) return Ref::none();
    paused_ = true;
    watch(watched() & ~EV_READ);
    note("pauses reading");
    return Ref::none();
}

Ref Flow::resume_reading() {
    if (closing_ || !paused_) return Ref::none();
    paused_ = false;
    watch(watched() | EV_READ);
    note("resumes reading");
    return Ref::none();
}

// Writing.

bool Flow::note_late_write(const char* warning) { return lost_++ < kLateWrites || warn(warning); }

bool Flow::warn(const char* text) {
    Ref log = Ref::steal(PyImport_ImportModule("asyncio.log"));
    Ref logger;
    if (log) logger = Ref::steal(PyObject_GetAttrString(log.get(), "logger"));
    return logger && Ref::steal(PyObject_CallMethod(logger.get(), "warning", "s", text));
}

bool Flow::tell_to_pause() {
    protocol_paused_ = true;
    Ref protocol = protocol_;
    return py::call_method(protocol.get(), name(Name::pause_writing)) ||
           report("protocol.pause_writing() failed");
}

bool Flow::tell_to_resume() {
    protocol_paused_ = false;
    return call_protocol(Name::resume_writing) || report("protocol.resume_writing() failed");
}

bool Flow::set_limits(py::Args args) {
    return water_marks("set_write_buffer_limits", args, kHigh, high_, low_);
}

bool water_marks(const char* function, py::Args args, size_t initial, size_t& high_mark,
                 size_t& low_mark) {
    static constexpr const char* names[] = {"high", "low"};
    PyObject* slots[2] = {};
    if (!py::bind({function, names, 2, 2, 0}, args, slots)) return false;
    double high = static_cast<double>(initial), low = 0;
    bool has_high = slots[0] && slots[0] != Py_None, has_low = slots[1] && slots[1] != Py_None;
    if (has_low && !py::to_double(slots[1], low)) return false;
    if (has_low) high = 4 * low;
    if (has_high && !py::to_double(slots[0], high)) return false;
    if (!has_low) low = std::floor(high / 4);
    if (!(high >= low && low >= 0)) {
        Ref four = Ref::steal(PyLong_FromLong(4)), shown_high, shown_low;
        if (!four) return false;
        shown_high =
            has_high ? Ref::borrow(slots[0]) : Ref::steal(PyNumber_Multiply(four.get(), slots[1]));
        shown_low = has_low ? Ref::borrow(slots[1]) : Ref::steal(PyLong_FromDouble(low));
        if (!shown_high || !shown_low) return false;
        return py::raise(PyExc_ValueError, "high (%R) must be >= low (%R) must be >= 0",
                         shown_high.get(), shown_low.get());
    }
    constexpr double most = 9e18;
    high_mark = static_cast<size_t>(std::min(high, most));
    low_mark = static_cast<size_t>(std::min(low, most));
    return true;
}

bool gives_bytes(PyObject* piece) {
    if (PyBytes_CheckExact(piece)) return true;
    Ref keep = Ref::borrow(piece);
    Py_buffer view;
    if (PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE) < 0) return false;
    PyBuffer_Release(&view);
    return true;
}

bool allow_upgrades(PyObject* type, const char* mode) {
    Ref constants = Ref::steal(PyImport_ImportModule("asyncio.constants")), modes, value;
    if (constants) modes = Ref::steal(PyObject_GetAttrString(constants.get(), "_SendfileMode"));
    if (modes) value = Ref::steal(PyObject_GetAttrString(modes.get(), mode));
    return value && PyObject_SetAttrString(type, "_start_tls_compatible", Py_True) == 0 &&
           PyObject_SetAttrString(type, "_sendfile_compatible", value.get()) == 0;
}

Ref marks(size_t low, size_t high) {
    return Ref::steal(
        Py_BuildValue("(nn)", static_cast<Py_ssize_t>(low), static_cast<Py_ssize_t>(high)));
}

Ref Flow::get_write_buffer_limits() { return marks(low_, high_); }

Ref Flow::get_paused() { return Ref::borrow(paused_ ? Py_True : Py_False); }

Ref Flow::get_protocol_paused() { return Ref::borrow(protocol_paused_ ? Py_True : Py_False); }

Ref Flow::describe(size_t unsent) {
    const char* name = Py_TYPE(object())->tp_name;
    const char* life = fd_ < 0 ? " closed" : closing_ ? " closing" : "";
    if (!loop_ || loop()->closed())
        return Ref::steal(
            PyUnicode_FromFormat("<%s%s fd=%d>", name, *life ? life : " open", io_.fd));
    return Ref::steal(PyUnicode_FromFormat("<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>", name,
                                           life, io_.fd, watched() & EV_READ ? "polling" : "idle",
                                           blocked() ? "polling" : "idle", unsent));
}

PyMethodDef Flow::kMethods[] = {
    py::noargs<&Transport::get_protocol>("get_protocol", R"(get_protocol($self, /)
--

The protocol; None once the connection is lost. asyncio: BaseTransport.get_protocol.)"),
    py::noargs<&Transport::is_closing>("is_closing", R"(is_closing($self, /)
--

Whether close() or abort() was called, or the connection ended. asyncio: BaseTransport.is_closing.)"),
    py::noargs<&Transport::abort>("abort", R"(abort($self, /)
--

Close at once: what is not sent is dropped. asyncio: WriteTransport.abort.)"),
    py::noargs<&Flow::get_write_buffer_limits>("get_write_buffer_limits",
                                               R"(get_write_buffer_limits($self, /)
--

The pair (low, high), in bytes. asyncio: WriteTransport.get_write_buffer_limits.)"),
    py::onearg<&Transport::force_close_with>("_force_close",
                                             "_force_close($self, exc, /)\n--\n\nasyncio's hook."),
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef Flow::kReadMethods[] = {
    py::noargs<&Flow::is_reading>("is_reading", R"(is_reading($self, /)
--

Whether the protocol gets what comes in. asyncio: ReadTransport.is_reading.)"),
    py::noargs<&Flow::pause_reading>("pause_reading", R"(pause_reading($self, /)
--

Let nothing more come in. asyncio: ReadTransport.pause_reading.)"),
    py::noargs<&Flow::resume_reading>("resume_reading", R"(resume_reading($self, /)
--

Let it come in again. asyncio: ReadTransport.resume_reading.)"),
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef Flow::kAttributes[] = {
    py::get<&Transport::get_extra>("_extra", "What get_extra_info() looks into."),
    py::get<&Transport::get_loop>("_loop", "The event loop; None once the connection is lost."),
    py::get<&Transport::get_socket>("_sock", "The socket."),
    py::get<&Transport::get_fd>("_sock_fd", "Its file descriptor."),
    py::get<&Flow::get_paused>("_paused", "Whether pause_reading() was called."),
    py::get<&Flow::get_protocol_paused>("_protocol_paused", "Whether writing is held back."),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace pyev::net
