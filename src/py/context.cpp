// Contexts made when they are needed.
#include "py/context.hpp"

#include <cstring>

namespace pyev::py {

// Whether a context here is what Parts says.
bool Contexts::init() {
    if (!kContextPartsKnown) return true;
    Ref context = Ref::steal(PyContext_New()), fresh = Ref::steal(PyContext_New()), copy;
    Ref variable = Ref::steal(PyContextVar_New("pyev", nullptr)), token;
    if (!context || !fresh || !variable) return false;
    if (Py_TYPE(context.get())->tp_basicsize != sizeof(Parts)) return true;
    {
        InContext entered(context.get());
        if (!entered) return false;
        token = Ref::steal(PyContextVar_Set(variable.get(), Py_None));
        copy = Ref::steal(PyContext_CopyCurrent());
        if (!token || !copy) return false;
        if (PyThreadState_Get()->context != context.get() || !parts(context.get())->entered)
            return true;
    }
    PyObject *vars = parts(context.get())->vars, *empty = parts(fresh.get())->vars;
    if (!vars || !empty || vars == empty || vars != parts(copy.get())->vars) return true;
    if (std::strcmp(Py_TYPE(vars)->tp_name, "hamt") != 0 || !Py_IS_TYPE(empty, Py_TYPE(vars)))
        return true;
    if (parts(context.get())->entered || parts(context.get())->weakrefs) return true;
    empty_ = Ref::borrow(empty);
    return true;
}

Ref Contexts::make(PyObject* vars) {
    Ref context = Ref::steal(PyContext_New());
    if (context) put(context.get(), vars);
    return context;
}

}  // namespace pyev::py
