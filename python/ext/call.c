/*
 * call.c - leaving Python for a library call and coming back. The library reports
 * progress on the thread that called it, about every 50 ms; each report takes the
 * GIL for a moment, lets Python handle signals (so Ctrl-C works) and calls the
 * user's function. What either raises cancels the call and is raised from it.
 */
#include "rvpy.h"

static int report(void *ctx, uint64_t done, uint64_t total) {
    rvpy_call *call = ctx;
    PyEval_RestoreThread(call->thread);
    bool cancel = PyErr_Occurred() || PyErr_CheckSignals() < 0;
    if (!cancel && call->callback) {
        PyObject *result = PyObject_CallFunction(
            call->callback, "KK", (unsigned long long)done, (unsigned long long)total);
        cancel = result == NULL;
        Py_XDECREF(result);
    }
    call->thread = PyEval_SaveThread();
    return cancel;
}

int rvpy_call_begin(rvpy_call *call, PyObject *callback) {
    if (!rvpy_given(callback)) callback = NULL;
    if (callback && !PyCallable_Check(callback)) {
        rvpy_wrong_type("progress", "a function (done, total)", callback);
        return -1;
    }
    *call = (rvpy_call){.callback = callback, .progress = {report, call}};
    call->thread = PyEval_SaveThread();
    return 0;
}

int rvpy_call_end(rvpy_call *call, rv_status status) {
    PyEval_RestoreThread(call->thread);
    return status != RV_OK || PyErr_Occurred() ? -1 : 0;
}

void rvpy_info(PyObject *self, rv_index_info *out) {
    const rv_index *index = rvpy_handle(self);
    PyThreadState *thread = PyEval_SaveThread();
    *out = (rv_index_info)RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(index, out, NULL);
    PyEval_RestoreThread(thread);
}
