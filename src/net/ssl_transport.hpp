// SslTransport: the transport of a protocol that speaks through TLS.
//
//   stream > received() > engine > protocol
//   protocol > write() > WriteQueue > engine > stream, at the end of the turn
//
// To the transport below it is the protocol: one of our streams hands it what it read where it was
// read, any other calls data_received(). What is written in a turn is encrypted together. Its life,
// its flow control and its errors are those of asyncio's own (asyncio.sslproto); how TLS is done is
// the engine's business.
#pragma once

#include <Python.h>

#include "aio/loop_base.hpp"
#include "aio/runnable.hpp"
#include "net/state.hpp"
#include "net/stream.hpp"
#include "net/tls_engine.hpp"
#include "net/write_queue.hpp"
#include "py/object.hpp"

namespace pyev::net {

class SslTransport : public aio::Runnable, public Sink {
 public:
    static const py::TypeInfo kType;

    // What a new one is made of.
    struct Parts {
        aio::LoopBase* loop = nullptr;
        PyObject* protocol = nullptr;
        PyObject* sslcontext = nullptr;
        PyObject* context = nullptr;  // for the protocol's calls; a copy of the current one
        PyObject* waiter = nullptr;   // a future, done when the handshake is, with the transport
        PyObject* server_hostname = Py_None;
        PyObject* handshake_timeout = nullptr;  // seconds
        PyObject* shutdown_timeout = nullptr;
        bool server_side = false;
        bool makes_connection = true;  // the protocol's connection_made() is to be called
    };

    SslTransport();
    ~SslTransport();

    // The Python type, a subclass of asyncio's `base`.
    static py::Ref make_type(PyObject* module, PyObject* base);
    // One without a connection below: that is for set_protocol() or a new transport to give.
    static py::Ref make(State& state, const Parts& parts);
    // The sink that a protocol is, or null.
    static Sink* sink_of(State& state, PyObject* protocol);

    // See py/lock.hpp.
    [[nodiscard]] bool lock(py::Lock& lock, bool) {
        return aio::LoopBase::lock_of(loop_, lock, object());
    }
    bool init(py::Args) { return true; }
    bool alive() const { return true; }
    bool enter() const;
    bool unfinished() const { return lower_ && !closing_; }
    void finalize();
    void stop_for_clear();

    template <class F>
    void each_ref(F f) {
        f(head()->extra);
        f(head()->dict);
        f(loop_);
        f(lower_);
        f(protocol_);
        f(context_);
        f(sslcontext_);
        f(ssl_object_);
        f(handshake_timeout_);
        f(shutdown_timeout_);
        f(waiter_);
        f(timer_);
        f(reason_);
        f(kept_);
        f(lost_);
        if (engine_) engine_->each_ref(f);
    }

    // A transport's methods.
    py::Ref get_extra_info(py::Args args);
    py::Ref set_protocol(py::Args args);
    py::Ref get_protocol() { return protocol_ ? protocol_ : py::Ref::none(); }
    py::Ref is_closing();
    py::Ref close();
    py::Ref abort();
    py::Ref force_close(PyObject* error);
    py::Ref is_reading() { return py::Ref::borrow(paused_ ? Py_False : Py_True); }
    py::Ref pause_reading();
    py::Ref resume_reading();
    py::Ref set_write_buffer_limits(py::Args args);
    py::Ref get_write_buffer_limits();
    py::Ref get_write_buffer_size();
    py::Ref set_read_buffer_limits(py::Args args);
    py::Ref get_read_buffer_limits();
    py::Ref get_read_buffer_size();
    py::Ref write(py::Args args);
    py::Ref writelines(py::Args args);
    py::Ref write_eof();
    py::Ref can_write_eof() { return py::Ref::borrow(Py_False); }
    py::Ref get_loop() { return loop_ ? loop_ : py::Ref::none(); }
    py::Ref get_sslcontext() { return sslcontext_ ? sslcontext_ : py::Ref::none(); }
    py::Ref get_protocol_paused() { return py::Ref::borrow(held_back_ ? Py_True : Py_False); }
    py::Ref repr();

    // A protocol's, for the transport below.
    py::Ref connection_made(PyObject* transport);
    py::Ref data_received(PyObject* data);
    py::Ref eof_received();
    py::Ref connection_lost(PyObject* error);
    py::Ref pause_writing();
    py::Ref resume_writing();

    // What is called later.
    py::Ref time_out();

 private:
    enum class Stage : unsigned char { kUnwrapped, kHandshake, kWrapped, kFlushing, kShutdown };
    // What the protocol has been told.
    enum class Told : unsigned char { kNothing, kMade, kEnd, kLost };
    // Why it is in the ready ring.
    enum What : unsigned { kClose = 1, kResume, kLost };
    struct Limits {
        size_t high, low;  // bytes
    };
    using Result = TlsEngine::Result;
    // The loop's buffer for what is to be sent, while nobody else has it.
    class Output;

    static const Runnable::Table kTable;
    static const Sink::Table kSink;

    static bool run(Runnable* runnable, unsigned what);
    static bool flush(Runnable* runnable);
    static bool take(Sink* sink, const char* data, size_t size);
    static bool flush(Sink* sink, bool all);

    PyObject* object() { return py::object_of(static_cast<aio::Runnable*>(this)); }
    Head* head() { return reinterpret_cast<Head*>(object()); }
    aio::LoopBase* loop() const { return py::value_of<aio::LoopBase>(loop_.get()); }
    PyObject* name(Name name) const { return State::of(*loop()).name(name); }
    bool connected() const { return stage_ != Stage::kUnwrapped; }

    [[nodiscard]] bool learn(PyObject* protocol);
    [[nodiscard]] bool start_timer(PyObject* seconds);
    void stop_timer();
    [[nodiscard]] bool wake(Name method, PyObject* value);

    [[nodiscard]] bool receive(const char* data, size_t size);
    [[nodiscard]] bool keep(const char* data, size_t size);
    [[nodiscard]] bool pass_on(const char* data, size_t size);
    [[nodiscard]] bool advance();
    [[nodiscard]] bool handshake();
    [[nodiscard]] bool handshake_failed();
    [[nodiscard]] bool refuse(PyObject* error);
    [[nodiscard]] bool deliver();
    Result fill(char* into, size_t room, size_t& size, TlsEngine::Output& output);
    Result read_bytes(TlsEngine::Output& output, py::Ref& data);
    template <class Take, class Tell>
    [[nodiscard]] bool read(Result& result, Take take, Tell tell);
    [[nodiscard]] bool deliver_bytes(Result& result);
    [[nodiscard]] bool tell_data(PyObject* protocol, PyObject* data);
    [[nodiscard]] bool deliver_into_protocol(Result& result);
    [[nodiscard]] bool resume();
    [[nodiscard]] bool read_on();
    [[nodiscard]] bool note_end();
    [[nodiscard]] bool end();
    [[nodiscard]] bool tell_end();
    [[nodiscard]] bool flush_above();
    [[nodiscard]] bool begin_closing();
    [[nodiscard]] bool finish();
    [[nodiscard]] bool discard();
    [[nodiscard]] bool complete();

    [[nodiscard]] bool append(PyObject* data);
    [[nodiscard]] bool note_late_write(PyObject* data);
    [[nodiscard]] bool appended();
    Result encrypt(TlsEngine::Output& output, size_t most);
    // `context`: of the protocol's calls, where none of the program's may be entered.
    [[nodiscard]] bool send(bool all = false, PyObject* context = nullptr);
    [[nodiscard]] bool takes();
    [[nodiscard]] bool put(TlsEngine::Output& output, bool later = false);
    size_t unsent();
    [[nodiscard]] bool control_writing(PyObject* context = nullptr);

    [[nodiscard]] bool report(const char* message, bool fatal = false);
    [[nodiscard]] bool fatal(const char* message);
    void send_before_end();
    [[nodiscard]] bool callback_failed(const char* message);
    [[nodiscard]] bool cut(PyObject* error);
    py::Ref peer_certificate();

    TlsEngine* engine_ = nullptr;
    Stream* stream_ = nullptr;  // lower_, when it is one of ours
    py::Ref loop_, lower_, protocol_, context_, sslcontext_, ssl_object_, waiter_;
    py::Ref handshake_timeout_, shutdown_timeout_, timer_;
    py::Ref reason_;  // for connection_lost()
    py::Ref kept_;    // bytes: records that came while nobody wanted them
    py::Ref lost_;    // connection_lost()'s error, or None, that came during receive()
    WriteQueue queue_;
    Limits writing_, reading_;
    size_t discarded_ = 0;  // bytes, since close()
    unsigned late_ = 0;     // writes after the end
    Stage stage_ = Stage::kUnwrapped;
    Told told_ = Told::kNothing;
    bool closing_ = false;
    bool buffered_ = false;   // the protocol is a BufferedProtocol
    bool feeds_ = false;      // or asyncio's StreamReaderProtocol
    bool paused_ = false;     // pause_reading()
    bool held_back_ = false;  // the protocol, by pause_writing()
    bool refused_ = false;    // the transport below takes no more, if it is not ours
    bool ended_ = false;      // so has what comes from below
    bool says_end_ = false;   // by a record, behind what was written before close()
    bool shaken_ = false;     // the handshake is done
    bool notified_ = false;   // the peer has said that no more comes
    bool accepted_ = false;   // by a server: nobody waits for the handshake
    bool resuming_ = false;   // in the ready ring for kResume
    bool receiving_ = false;  // in receive(); meanwhile
    bool comes_ = false;      // more came, in kept_
    bool ends_ = false;       // and the end
};

}  // namespace pyev::net
