// The extension module pyev._core: the one file that knows every type.
#include <Python.h>
#include <ev.h>

#include "aio/loop_base.hpp"
#include "ev/async.hpp"
#include "ev/check.hpp"
#include "ev/child.hpp"
#include "ev/cleanup.hpp"
#include "ev/context_callback.hpp"
#include "ev/embed.hpp"
#include "ev/fork.hpp"
#include "ev/functions.hpp"
#include "ev/idle.hpp"
#include "ev/io.hpp"
#include "ev/once.hpp"
#include "ev/periodic.hpp"
#include "ev/prepare.hpp"
#include "ev/scheduler.hpp"
#include "ev/signal.hpp"
#include "ev/stat.hpp"
#include "ev/state.hpp"
#include "ev/timer.hpp"
#include "net/functions.hpp"
#include "net/state.hpp"
#include "py/compat.hpp"

namespace pyev {

using ev::State;
using py::Ref;

// What the module keeps: ev's state, and that of the layers above it, which is one.
struct States {
    State* ev;
    net::State* net;
};

struct Constant {
    const char* name;
    int value;
};

#define PYEV_CONSTANT(name) {#name, static_cast<int>(name)}
static constexpr Constant constants[] = {
    PYEV_CONSTANT(EVFLAG_AUTO),
    PYEV_CONSTANT(EVFLAG_NOENV),
    PYEV_CONSTANT(EVFLAG_FORKCHECK),
    PYEV_CONSTANT(EVFLAG_NOINOTIFY),
    PYEV_CONSTANT(EVFLAG_SIGNALFD),
    PYEV_CONSTANT(EVFLAG_NOSIGMASK),
    PYEV_CONSTANT(EVFLAG_NOTIMERFD),
    PYEV_CONSTANT(EVBACKEND_SELECT),
    PYEV_CONSTANT(EVBACKEND_POLL),
    PYEV_CONSTANT(EVBACKEND_EPOLL),
    PYEV_CONSTANT(EVBACKEND_KQUEUE),
    PYEV_CONSTANT(EVBACKEND_DEVPOLL),
    PYEV_CONSTANT(EVBACKEND_PORT),
    PYEV_CONSTANT(EVBACKEND_LINUXAIO),
    PYEV_CONSTANT(EVBACKEND_IOURING),
    PYEV_CONSTANT(EVBACKEND_ALL),
    PYEV_CONSTANT(EVBACKEND_MASK),
    PYEV_CONSTANT(EVRUN_NOWAIT),
    PYEV_CONSTANT(EVRUN_ONCE),
    PYEV_CONSTANT(EVBREAK_CANCEL),
    PYEV_CONSTANT(EVBREAK_ONE),
    PYEV_CONSTANT(EVBREAK_ALL),
    PYEV_CONSTANT(EV_READ),
    PYEV_CONSTANT(EV_WRITE),
    PYEV_CONSTANT(EV_IO),
    PYEV_CONSTANT(EV_TIMER),
    PYEV_CONSTANT(EV_PERIODIC),
    PYEV_CONSTANT(EV_SIGNAL),
    PYEV_CONSTANT(EV_CHILD),
    PYEV_CONSTANT(EV_STAT),
    PYEV_CONSTANT(EV_IDLE),
    PYEV_CONSTANT(EV_PREPARE),
    PYEV_CONSTANT(EV_CHECK),
    PYEV_CONSTANT(EV_EMBED),
    PYEV_CONSTANT(EV_FORK),
    PYEV_CONSTANT(EV_CLEANUP),
    PYEV_CONSTANT(EV_ASYNC),
    PYEV_CONSTANT(EV_CUSTOM),
    PYEV_CONSTANT(EV_ERROR),
    PYEV_CONSTANT(EV_UNDEF),
    PYEV_CONSTANT(EV_NONE),
    PYEV_CONSTANT(EV_MINPRI),
    PYEV_CONSTANT(EV_MAXPRI),
};
#undef PYEV_CONSTANT

template <class T, bool Closed = false>
static bool add_type(PyObject* module, State& state) {
    PyObject* base = nullptr;
    if constexpr (!std::is_same_v<T, ev::Loop>)
        base = reinterpret_cast<PyObject*>(state.type<ev::Watcher>());
    const PyMethodDef* shared = base ? ev::Watcher::kType.methods : nullptr;
    Ref type = py::make_type<T, Closed>(module, base, {shared});
    if (!type || PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(type.get())) < 0)
        return false;
    state.types[ev::Types::index<T>()] = type;
    return true;
}

static bool add_types(PyObject* module, State& state) {
    Ref watcher = py::make_abstract_type<ev::Watcher>(module);
    if (!watcher || PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(watcher.get())) < 0)
        return false;
    state.types[ev::Types::index<ev::Watcher>()] = watcher;
    state.context_callback = py::make_type<ev::ContextCallback, true>(module);
    return state.context_callback && add_type<ev::Loop>(module, state) &&
           add_type<ev::Io>(module, state) && add_type<ev::Timer>(module, state) &&
           add_type<ev::Periodic>(module, state) && add_type<ev::Scheduler>(module, state) &&
           add_type<ev::Signal>(module, state) && add_type<ev::Child>(module, state) &&
           add_type<ev::Stat>(module, state) && add_type<ev::Idle>(module, state) &&
           add_type<ev::Prepare>(module, state) && add_type<ev::Check>(module, state) &&
           add_type<ev::Embed>(module, state) && add_type<ev::Fork>(module, state) &&
           add_type<ev::Async>(module, state) && add_type<ev::Cleanup>(module, state) &&
           add_type<ev::Once, true>(module, state);
}

static bool add_event_loop(PyObject* module, net::State& state) {
    state.loop_base = py::make_type<aio::LoopBase>(module);
    state.sockets.operation = py::make_type<aio::Operation, true>(module);
    return state.loop_base && state.sockets.operation &&
           PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(state.loop_base.get())) == 0;
}

static bool add_values(PyObject* module, State& state) {
    for (int bit = 0; bit < 32; ++bit) {
        state.bits[bit] = Ref::steal(PyLong_FromLong(static_cast<int>(1u << bit)));
        if (!state.bits[bit]) return false;
    }
    for (const Constant& constant : constants)
        if (PyModule_AddIntConstant(module, constant.name, constant.value) < 0) return false;
    state.error = Ref::steal(PyErr_NewExceptionWithDoc(
        "pyev.Error",
        R"(A use of the loop or a watcher that libev does not allow, or that could not be done.

Raised by set() or __init__() of an active watcher, by setting the priority of an active or
pending one, for a Child where none can be, a wrong Io mask, a loop that cannot be embedded, a
backend that is missing, a signal already watched by another loop, and every use of a closed
loop. In libev's C API most of these abort the process.)",
        nullptr, nullptr));
    state.stat_result = ev::Stat::make_result_type(module);
    return state.error && state.stat_result &&
           PyModule_AddObjectRef(module, "Error", state.error.get()) == 0 &&
           PyModule_AddObjectRef(module, "StatResult", state.stat_result.get()) == 0 &&
           PyModule_AddStringConstant(module, "__version__", PYEV_VERSION) == 0;
}

// Signals have Python handlers in the main interpreter's main thread only.
static bool find_main_thread(State& state) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) return true;
    Ref threading = Ref::steal(PyImport_ImportModule("threading"));
    Ref thread, ident;
    if (threading)
        thread = Ref::steal(PyObject_CallMethod(threading.get(), "main_thread", nullptr));
    if (thread) ident = Ref::steal(PyObject_GetAttrString(thread.get(), "ident"));
    if (!ident) return false;
    state.main_thread = PyLong_AsUnsignedLong(ident.get());
    return !PyErr_Occurred();
}

static bool find_wakeup(State& state) {
    Ref signal = Ref::steal(PyImport_ImportModule("signal"));
    if (signal)
        state.set_wakeup_fd = Ref::steal(PyObject_GetAttrString(signal.get(), "set_wakeup_fd"));
    state.wakeup_names = Ref::steal(Py_BuildValue("(s)", "warn_on_full_buffer"));
    return state.set_wakeup_fd && state.wakeup_names;
}

static bool register_fork(PyObject* module) {
    Ref os = Ref::steal(PyImport_ImportModule("os"));
    Ref add, options, arguments = Ref::steal(PyTuple_New(0)), done;
    if (os) add = Ref::steal(PyObject_GetAttrString(os.get(), "register_at_fork"));
    Ref before = Ref::steal(PyCFunction_New(&ev::before_fork_function, module));
    Ref after = Ref::steal(PyCFunction_New(&ev::after_fork_function, module));
    if (before && after)
        options = Ref::steal(
            Py_BuildValue("{s:O,s:O}", "before", before.get(), "after_in_child", after.get()));
    if (add && arguments && options)
        done = Ref::steal(PyObject_Call(add.get(), arguments.get(), options.get()));
    return static_cast<bool>(done);
}

static int exec(PyObject* module) {
    if (ev_version_major() != EV_VERSION_MAJOR || ev_version_minor() < 33) {
        PyErr_Format(PyExc_ImportError, "pyev needs libev 4.33 or later, but found %d.%d",
                     ev_version_major(), ev_version_minor());
        return -1;
    }
    auto* states = static_cast<States*>(PyModule_GetState(module));
    State* state = states->ev = new (std::nothrow) State;
    states->net = new (std::nothrow) net::State;
    if (!state || !states->net) return PyErr_NoMemory(), -1;
    bool done = add_values(module, *state) && add_types(module, *state) &&
                add_event_loop(module, *states->net) && find_main_thread(*state) &&
                PyModule_AddFunctions(module, net::functions) == 0 && find_wakeup(*state) &&
                register_fork(module);
    return done ? 0 : -1;
}

static int traverse(PyObject* module, visitproc visit, void* arg) {
    auto* states = static_cast<States*>(PyModule_GetState(module));
    int result = 0;
    auto visit_ref = [&](Ref& ref) {
        if (result == 0 && ref) result = visit(ref.get(), arg);
    };
    if (states->ev) states->ev->each_ref(visit_ref);
    if (states->net) states->net->each_ref(visit_ref);
    return result;
}

static int clear(PyObject* module) {
    auto* states = static_cast<States*>(PyModule_GetState(module));
    if (states->ev) states->ev->each_ref([](Ref& ref) { ref = Ref(); });
    if (states->net) {
        states->net->handles.clear();
        states->net->each_ref([](Ref& ref) { ref = Ref(); });
    }
    return 0;
}

static void free_module(void* module) {
    auto* self = static_cast<PyObject*>(module);
    clear(self);
    auto* states = static_cast<States*>(PyModule_GetState(self));
    if (states->ev) states->ev->release();
    if (states->net) states->net->release();
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(exec)},
    PYEV_PER_INTERPRETER_GIL,
    PYEV_NEEDS_NO_GIL,
    {0, nullptr},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "pyev._core",
    "The native half of pyev: libev's loop and its watchers.",
    sizeof(States),
    ev::functions,
    slots,
    traverse,
    clear,
    free_module,
};

}  // namespace pyev

PyMODINIT_FUNC PyInit__core() {
    pyev::ev::State::definition = &pyev::definition;
    return PyModuleDef_Init(&pyev::definition);
}
