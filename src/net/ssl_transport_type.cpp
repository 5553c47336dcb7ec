// SslTransport's tables: its methods and attributes, and its type.
#include "net/ssl_transport.hpp"
#include "py/method.hpp"

namespace pyev::net {

using py::Ref;

static PyMethodDef methods[] = {
    py::fast<&SslTransport::get_extra_info>("get_extra_info",
                                            R"(get_extra_info($self, name, default=None)
--

What is known of the connection: after the handshake "peercert", "cipher", "compression" and
"ssl_object", always "sslcontext", and what the transport below knows ("peername", "socket", ...).

"close_notify", which asyncio does not have: whether the peer has ended what it sent by TLS's word for
it. After eof_received() False means that the connection just broke off, perhaps by an attacker.

asyncio: BaseTransport.get_extra_info.)"),
    py::fast<&SslTransport::set_protocol>("set_protocol", R"(set_protocol($self, protocol)
--

Hand the connection over to another protocol. asyncio: BaseTransport.set_protocol.)"),
    py::noargs<&SslTransport::get_protocol>("get_protocol", R"(get_protocol($self, /)
--

The protocol; None once the connection is lost. asyncio: BaseTransport.get_protocol.)"),
    py::noargs<&SslTransport::is_closing>("is_closing", R"(is_closing($self, /)
--

Whether close() or abort() was called, or the connection ended. asyncio: BaseTransport.is_closing.)"),
    py::noargs<&SslTransport::close>("close", R"(close($self, /)
--

Stop reading, send what is written, say that no more comes, and close once the peer has said so,
too; after ssl_shutdown_timeout seconds without it. asyncio: BaseTransport.close.)"),
    py::noargs<&SslTransport::abort>("abort", R"(abort($self, /)
--

Close at once: what is not sent is dropped. asyncio: WriteTransport.abort.)"),
    py::noargs<&SslTransport::is_reading>("is_reading", R"(is_reading($self, /)
--

Whether the protocol gets what comes in. asyncio: ReadTransport.is_reading.)"),
    py::noargs<&SslTransport::pause_reading>("pause_reading", R"(pause_reading($self, /)
--

Let nothing more come in. asyncio: ReadTransport.pause_reading.)"),
    py::noargs<&SslTransport::resume_reading>("resume_reading", R"(resume_reading($self, /)
--

Let it come in again, from the next turn on. asyncio: ReadTransport.resume_reading.)"),
    py::fast<&SslTransport::write>("write", R"(write($self, data)
--

Send bytes: encrypted at the end of this turn of the loop, with whatever else is written in it.

data: bytes, bytearray or memoryview; what can change is copied. Raises TypeError for anything else.
asyncio: WriteTransport.write.)"),
    py::fast<&SslTransport::writelines>("writelines", R"(writelines($self, list_of_data)
--

Send each of an iterable of bytes. asyncio: WriteTransport.writelines.)"),
    py::noargs<&SslTransport::write_eof>("write_eof", R"(write_eof($self, /)
--

Raise NotImplementedError: TLS has no half-closed connections here. asyncio: WriteTransport.write_eof.)"),
    py::noargs<&SslTransport::can_write_eof>("can_write_eof", R"(can_write_eof($self, /)
--

False. asyncio: WriteTransport.can_write_eof.)"),
    py::fast<&SslTransport::set_write_buffer_limits>(
        "set_write_buffer_limits", R"(set_write_buffer_limits($self, high=None, low=None)
--

How many unsent bytes pause the protocol (512 KiB at first), and how few resume it.

Raises ValueError unless high >= low >= 0. asyncio: WriteTransport.set_write_buffer_limits.)"),
    py::noargs<&SslTransport::get_write_buffer_limits>("get_write_buffer_limits",
                                                       R"(get_write_buffer_limits($self, /)
--

The pair (low, high), in bytes. asyncio: WriteTransport.get_write_buffer_limits.)"),
    py::noargs<&SslTransport::get_write_buffer_size>("get_write_buffer_size",
                                                     R"(get_write_buffer_size($self, /)
--

How many written bytes could not be sent so far. asyncio: WriteTransport.get_write_buffer_size.)"),
    py::fast<&SslTransport::set_read_buffer_limits>(
        "set_read_buffer_limits", R"(set_read_buffer_limits($self, high=None, low=None)
--

Accepted for asyncio's sake: what is paused reads no more at all, so nothing piles up.

Raises ValueError unless high >= low >= 0.)"),
    py::noargs<&SslTransport::get_read_buffer_limits>("get_read_buffer_limits",
                                                      R"(get_read_buffer_limits($self, /)
--

The pair (low, high), in bytes.)"),
    py::noargs<&SslTransport::get_read_buffer_size>("get_read_buffer_size",
                                                    R"(get_read_buffer_size($self, /)
--

How many bytes of records were read before the protocol paused, and are kept.)"),
    py::onearg<&SslTransport::force_close>("_force_close",
                                           "_force_close($self, exc, /)\n--\n\nasyncio's hook."),
    py::noargs<&SslTransport::time_out>("_time_out", "_time_out($self, /)\n--\n\nToo long."),
    py::onearg<&SslTransport::connection_made>(
        "connection_made", "connection_made($self, transport, /)\n--\n\nBegin the handshake."),
    py::onearg<&SslTransport::data_received>("data_received",
                                             "data_received($self, data, /)\n--\n\nTake records."),
    py::noargs<&SslTransport::eof_received>("eof_received",
                                            "eof_received($self, /)\n--\n\nNo more records come."),
    py::onearg<&SslTransport::connection_lost>(
        "connection_lost", "connection_lost($self, exc, /)\n--\n\nThe end below."),
    py::noargs<&SslTransport::pause_writing>("pause_writing",
                                             "pause_writing($self, /)\n--\n\nSend nothing."),
    py::noargs<&SslTransport::resume_writing>("resume_writing",
                                              "resume_writing($self, /)\n--\n\nSend again."),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&SslTransport::get_loop>("_loop", "The event loop."),
    py::get<&SslTransport::get_sslcontext>("_sslcontext", "The SSLContext; aiohttp's tests ask."),
    py::get<&SslTransport::get_protocol_paused>("_protocol_paused",
                                                "Whether writing is held back."),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo SslTransport::kType = {
    "pyev.SSLTransport",
    "A connection through TLS, and the protocol of the transport below it. asyncio: Transport.",
    methods,
    getset,
};

Ref SslTransport::make_type(PyObject* module, PyObject* base) {
    Ref type = py::make_type<SslTransport, true>(module, base);
    return type && allow_upgrades(type.get(), "FALLBACK") ? type : Ref();
}

}  // namespace pyev::net
