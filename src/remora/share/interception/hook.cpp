// Stands before every operator of ATen that any thread of this process calls, looks at the words
// of a gate, and asks Python where they do not say that it is open.
//
// torch tells of every operator through callbacks that it runs itself (at::RecordFunction); it does
// so for operators that Python, autograd, other operators or TorchScript call, and on every thread.
// Python's functions are declared here and not included: so a compiler and torch's own headers are
// enough, and those of Python need not be installed.

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>

#include <cxxabi.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

extern "C" {
typedef struct _object PyObject; // as Python names it
int PyGILState_Ensure();
void PyGILState_Release(int);
int Py_IsInitialized();
void Py_IncRef(PyObject*);
void Py_DecRef(PyObject*);
PyObject* PyObject_CallNoArgs(PyObject*);
PyObject* PyObject_CallFunctionObjArgs(PyObject*, ...);
void PyErr_Fetch(PyObject**, PyObject**, PyObject**);
void PyErr_Restore(PyObject*, PyObject*, PyObject*);
void PyErr_NormalizeException(PyObject**, PyObject**, PyObject**);
void PyErr_WriteUnraisable(PyObject*);
int PyException_SetTraceback(PyObject*, PyObject*);
unsigned long PyThread_get_thread_ident();
int PyThreadState_SetAsyncExc(unsigned long, PyObject*);
extern char _Py_NoneStruct; // what None is; its type is not known here
}

namespace {

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == sizeof(uint32_t) && Word::is_always_lock_free);

struct Gate {
  const Word* words;
  size_t count;
  uint64_t every;

  bool is_open() const {
    for (size_t at = 0; at < count; at += 2) {
      if (words[at].load(std::memory_order_acquire) !=
          words[at + 1].load(std::memory_order_acquire)) {
        return false;
      }
    }
    return true;
  }
};

enum class Kind : uint8_t { no_operator, composite, computes };

struct Known {
  const char* name = nullptr;
  Kind kind = Kind::no_operator;
};

constexpr size_t kKnownBits = 8;

struct Thread {
  // The operator that this thread is in; what it calls in turn is a part of it.
  const at::RecordFunction* outermost = nullptr;
  bool is_asking = false;
  // An exception is on its way to the program: nothing waits until it has come there.
  bool is_failing = false;
  Known known[size_t{1} << kKnownBits];
};

thread_local Thread this_thread;

std::atomic<const Gate*> gate{nullptr};
std::atomic<int64_t> looking{0};
std::atomic<uint64_t> operators{0};

// Changed and read with the GIL held.
PyObject* ask = nullptr;
PyObject* failed = nullptr;

at::CallbackHandle callback = at::INVALID_CALLBACK_HANDLE;

// ---------------------------------------------------------------- what an operator is

// What is recorded under a name alone, as Python's autograd functions are, is no operator: those
// within it pass. So do those within a composite operator, which computes by calling others; it
// passes itself as well, since some have a kernel of their own for some devices.
Kind find_kind(const at::RecordFunction& call) {
  const auto name = call.operator_name();
  if (!name) {
    return Kind::no_operator;
  }
  const auto found = c10::Dispatcher::singleton().findOp(*name);
  const bool is_composite = found &&
      found->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
  return is_composite ? Kind::composite : Kind::computes;
}

// The text of an operator's name lies where its schema is, so where it lies tells which it is.
Kind kind_of(const at::RecordFunction& call, Thread& here) {
  const char* name = call.name();
  const auto mixed = reinterpret_cast<uintptr_t>(name) * uint64_t{0x9E3779B97F4A7C15};
  Known& known = here.known[mixed >> (64 - kKnownBits)];
  if (known.name != name) {
    const Kind kind = find_kind(call);
    if (kind == Kind::no_operator) {
      return kind; // its name is gone when it is over
    }
    known = {name, kind};
  }
  return known.kind;
}

// ---------------------------------------------------------------- asking Python

// torch swallows what a callback throws. So an exception is handed to Python, which tells what is
// to be raised in this thread when it is back in Python, or None where another thread gets it.
// Raising must be the last thing done here: the next instruction of Python is the program's.
void hand_over(Thread& here) {
  PyObject *type = nullptr, *error = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &error, &trace);
  PyErr_NormalizeException(&type, &error, &trace);
  if (trace != nullptr) {
    PyException_SetTraceback(error, trace);
  }
  PyObject* raised = PyObject_CallFunctionObjArgs(failed, error, nullptr);
  if (raised == nullptr) {
    PyErr_WriteUnraisable(failed);
  }
  for (PyObject* each : {type, error, trace}) {
    if (each != nullptr) {
      Py_DecRef(each);
    }
  }
  if (raised != nullptr) {
    if (static_cast<void*>(raised) != &_Py_NoneStruct) {
      here.is_failing = true;
      PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), raised);
    }
    Py_DecRef(raised);
  }
}

void ask_python(Thread& here) {
  const int state = PyGILState_Ensure();
  PyObject *type = nullptr, *error = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &error, &trace); // of an extension that calls an operator while one is set
  if (PyObject* asked = ask) {
    Py_IncRef(asked); // it may end while this thread waits
    if (PyObject* answer = PyObject_CallNoArgs(asked)) {
      Py_DecRef(answer);
    } else {
      hand_over(here);
    }
    Py_DecRef(asked);
  }
  PyErr_Restore(type, error, trace);
  PyGILState_Release(state);
}

void wait_at_gate(Thread& here) {
  // Within a parallel region another thread waits for this one, maybe with the GIL held.
  if (at::in_parallel_region() || !Py_IsInitialized()) {
    return;
  }
  here.is_asking = true;
  try {
    ask_python(here);
  } catch (abi::__forced_unwind&) {
    // The interpreter has ended and ends this thread where it asks for the GIL. Unwinding through
    // torch would abort the process: it stands still until the process is gone, as from Python
    // 3.14 on.
    for (;;) {
      pause();
    }
  }
  here.is_asking = false;
}

// ---------------------------------------------------------------- passing

void pass(Thread& here) {
  looking.fetch_add(1); // before the load: `end` frees what nobody looks at
  bool is_asked = false;
  if (const Gate* now = gate.load()) {
    const uint64_t count = operators.fetch_add(1, std::memory_order_relaxed) + 1;
    is_asked = !now->is_open() || (now->every != 0 && count % now->every == 0);
  }
  looking.fetch_sub(1, std::memory_order_release);
  if (is_asked && !here.is_failing) {
    wait_at_gate(here);
  }
}

std::unique_ptr<at::ObserverContext> before(const at::RecordFunction& call) {
  Thread& here = this_thread;
  if (here.outermost != nullptr || here.is_asking) {
    return nullptr;
  }
  const Kind kind = kind_of(call, here);
  if (kind != Kind::no_operator) {
    pass(here);
  }
  if (kind == Kind::computes) {
    here.outermost = &call;
  }
  return nullptr;
}

void after(const at::RecordFunction& call, at::ObserverContext*) {
  Thread& here = this_thread;
  if (here.outermost == &call) {
    here.outermost = nullptr;
  }
}

// ---------------------------------------------------------------- begin and end

// In a child a lock of torch's stays taken for good if another thread had it when the child was made.
// torch takes one where a thread hears of callbacks that were added or removed: so the thread that
// forks hears of them before, and a child removes none.
bool is_child = false;

void prepare_fork() {
  at::getStepCallbacksUnlessEmpty(at::RecordScope::FUNCTION);
}

// A child begins without: whoever opens the gate may not know of it.
void forget_after_fork() {
  is_child = true;
  gate.store(nullptr);
  looking.store(0);
}

} // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// All but `remora_hook_operators` with the GIL held.

EXPORTED void remora_hook_begin(
    const void* words, size_t count, uint64_t every, PyObject* asks, PyObject* fails) {
  static const int registered = pthread_atfork(prepare_fork, nullptr, forget_after_fork);
  (void)registered;
  Py_IncRef(asks);
  Py_IncRef(fails);
  ask = asks;
  failed = fails;
  operators.store(0);
  gate.store(new Gate{static_cast<const Word*>(words), count, every});
  if (callback == at::INVALID_CALLBACK_HANDLE) {
    callback = at::addGlobalCallback(
        at::RecordFunctionCallback(before, after).scopes({at::RecordScope::FUNCTION}));
  }
}

// When it returns nobody looks at the words any more.
EXPORTED void remora_hook_end() {
  const Gate* was = gate.exchange(nullptr);
  if (callback != at::INVALID_CALLBACK_HANDLE && !is_child) {
    at::removeCallback(callback);
    callback = at::INVALID_CALLBACK_HANDLE;
  }
  while (looking.load() != 0) {
    std::this_thread::yield();
  }
  delete was;
  PyObject* asked = ask;
  ask = nullptr;
  if (asked != nullptr) {
    Py_DecRef(asked); // `failed` is kept: who waits at the gate may need it still
  }
}

EXPORTED uint64_t remora_hook_operators() {
  return operators.load();
}

// One unit that torch does not tell of.
EXPORTED void remora_hook_pass() {
  Thread& here = this_thread;
  if (!here.is_asking) {
    pass(here);
  }
}

// The exception that this thread handed over has come to the program.
EXPORTED void remora_hook_reached() {
  this_thread.is_failing = false;
}
