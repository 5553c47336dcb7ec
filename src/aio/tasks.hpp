// create_task() and create_future(), where they do what asyncio's own do: a call of a class of its
// C module. In all other cases asyncio's are called.
#pragma once

#include <Python.h>

#include "py/args.hpp"
#include "py/ref.hpp"

namespace pyev::aio {

class Tasks {
 public:
    [[nodiscard]] bool init();
    bool ready() const { return static_cast<bool>(base_create_task); }
    template <class F>
    void each_ref(F f) {
        for (py::Ref* ref :
             {&base_create_task, &base_create_future, &task_, &future_, &tasks_, &futures_,
              &task_name_, &future_name_, &none_, &name_, &context_, &eager_start_})
            f(*ref);
    }

    // Whether asyncio's own would call the C module's class: a program may put another in the
    // module asyncio.tasks.
    bool plain_task() const { return is_plain(tasks_, task_name_, task_); }
    bool plain_future() const { return is_plain(futures_, future_name_, future_); }
    // Whether asyncio's create_task() would only hand them to the class.
    bool plain_arguments(py::Args args) const {
        return args.count == 1 && (!args.names || plain_names(args.names));
    }
    // `loop` is a dictionary of the one argument of that name.
    py::Ref make_task(py::Args args, PyObject* loop) const;
    py::Ref make_future(PyObject* loop) const;

    py::Ref base_create_task, base_create_future;

 private:
    bool plain_names(PyObject* names) const;
    static bool is_plain(const py::Ref& module, const py::Ref& name, const py::Ref& type) {
        PyObject* found = PyDict_GetItemWithError(PyModule_GetDict(module.get()), name.get());
        return found && found == type.get();
    }

    py::Ref task_, future_;    // the C module's
    py::Ref tasks_, futures_;  // the modules that asyncio looks in
    py::Ref task_name_, future_name_;
    py::Ref none_;                          // ()
    py::Ref name_, context_, eager_start_;  // of keywords; the last one where asyncio takes it
};

}  // namespace pyev::aio
