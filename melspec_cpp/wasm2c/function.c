/* A stranger's WebAssembly function as a library, over the C that wasm2c makes of its module: for boards that have no
 * WebAssembly engine. labous.nodes.wasm says what the module must export, and labous.station.compiled_function is the
 * host.
 *
 * Whatever the module does, it stays within its memory: where an engine would trap, the call returns a code below
 * LABOUS_WASM_TRAPPED, and the instance is then only good for being destroyed. Memory and tables are bounded; time is
 * not. An instance is used by one thread at a time.
 */
#include <stdlib.h>
#include <string.h>

#define LABOUS_UNBOUNDED
#include "bounds.h"
#include "functions.h" /* boards.py wrote it: LABOUS_SOURCE, LABOUS_FUNCTIONS, LABOUS_INITIALIZE */
#include "module.h"    /* wasm2c wrote it */
#include "wasm-rt-exceptions.h"
#include "wasm-rt-impl.h"

#if WASM_RT_MEMCHECK_GUARD_PAGES || WASM_RT_USE_MMAP
#error "a library keeps its hands off SIGSEGV: define WASM_RT_MEMCHECK_BOUNDS_CHECK=1 and WASM_RT_USE_MMAP=0"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the module's memory is little-endian, and is copied as it is"
#endif

#define API __attribute__((visibility("default")))

enum { LABOUS_WASM_ABI_VERSION = 1, TABLE_LIMIT = 1 << 16 };

enum {
  LABOUS_WASM_OK = 0,
  LABOUS_WASM_ERROR_HOST = -1,     /* the host has no memory */
  LABOUS_WASM_ERROR_FUNCTION = -2, /* the module exports no such function */
  LABOUS_WASM_ERROR_LIMIT = -3,    /* the module begins with more than it may have */
  LABOUS_WASM_TRAPPED = -100       /* less the wasm_rt_trap_t, which is at least 1 */
};

typedef u32 function(w2c_module *, u32, u32, u32, u32);

typedef struct {
  w2c_module module;
  function *called;
} labous_wasm;

static const struct {
  const char *name;
  function *called;
} functions[] = {LABOUS_FUNCTIONS};

/* Of the instance that is being made in this thread. */
static _Thread_local u64 allowed_bytes;
static _Thread_local int32_t refused;

__attribute__((constructor)) static void start(void) { wasm_rt_init(); }

static _Noreturn void refuse(int32_t code) {
  refused = code;
  wasm_rt_trap(WASM_RT_TRAP_OOB);
}

/* wasm2c's runtime ends the program where there is no memory. */
static void need(u64 bytes) {
  void *tried = bytes > SIZE_MAX ? NULL : malloc((size_t)bytes + 1);
  if (tried == NULL) refuse(LABOUS_WASM_ERROR_HOST);
  free(tried);
}

void labous_allocate_memory(wasm_rt_memory_t *memory, uint64_t initial, uint64_t most, bool is64, uint32_t page_bytes) {
  u64 allowed = allowed_bytes / page_bytes;
  if (initial > allowed) refuse(LABOUS_WASM_ERROR_LIMIT);
  need(initial * page_bytes);
  wasm_rt_allocate_memory(memory, initial, most < allowed ? most : allowed, is64, page_bytes);
}

#define TABLE(kind)                                                                                                 \
  void labous_allocate_##kind##_table(wasm_rt_##kind##_table_t *table, uint32_t initial, uint32_t most) {           \
    if (initial > TABLE_LIMIT) refuse(LABOUS_WASM_ERROR_LIMIT);                                                     \
    need((u64)initial * sizeof *table->data);                                                                       \
    wasm_rt_allocate_##kind##_table(table, initial, most < TABLE_LIMIT ? most : TABLE_LIMIT);                       \
  }
TABLE(funcref)
TABLE(externref)

/* Returns OK from the function that it is in when the statement is done, or the code of the trap that it ends in. */
#define RETURN_GUARDED(statement)                      \
  do {                                                 \
    int trap = wasm_rt_impl_try();                     \
    if (trap != 0) return LABOUS_WASM_TRAPPED - trap;  \
    statement;                                         \
    return LABOUS_WASM_OK;                             \
  } while (0)

static void *inside(labous_wasm *made, u32 address, u32 bytes) {
  wasm_rt_memory_t *memory = w2c_module_memory(&made->module);
  if ((u64)address + bytes > memory->size) wasm_rt_trap(WASM_RT_TRAP_OOB);
  return memory->data + address;
}

static int32_t begin(labous_wasm *made) {
  RETURN_GUARDED({
    wasm2c_module_instantiate(&made->module);
    LABOUS_INITIALIZE(&made->module);
  });
}

API int32_t labous_wasm_abi_version(void) { return LABOUS_WASM_ABI_VERSION; }

/* The sha256 of the module that it was made from, in 64 lower-case hex digits. */
API const char *labous_wasm_source(void) { return LABOUS_SOURCE; }

API const char *labous_wasm_message(int32_t code) {
  if (code < LABOUS_WASM_TRAPPED) return wasm_rt_strerror((wasm_rt_trap_t)(LABOUS_WASM_TRAPPED - code));
  switch (code) {
    case LABOUS_WASM_ERROR_HOST:
      return "the system has no memory for it";
    case LABOUS_WASM_ERROR_FUNCTION:
      return "there is no such function";
    case LABOUS_WASM_ERROR_LIMIT:
      return "its memory or a table begins with more than it may have";
    default:
      return "no error";
  }
}

API void labous_wasm_destroy(labous_wasm *made) {
  if (made == NULL) return;
  wasm2c_module_free(&made->module);
  free(made);
}

/* A new instance, begun, whose memory may grow to `bytes`, to call the exported function of this name. */
API int32_t labous_wasm_create(const char *name, uint64_t bytes, labous_wasm **instance) {
  *instance = NULL;
  labous_wasm *made = calloc(1, sizeof *made);
  if (made == NULL) return LABOUS_WASM_ERROR_HOST;
  for (size_t n = 0; n < sizeof functions / sizeof *functions; ++n)
    if (strcmp(functions[n].name, name) == 0) made->called = functions[n].called;
  allowed_bytes = bytes;
  refused = LABOUS_WASM_OK;
  int32_t code = made->called == NULL ? LABOUS_WASM_ERROR_FUNCTION : begin(made);
  if (code == LABOUS_WASM_OK) {
    *instance = made;
    return code;
  }
  labous_wasm_destroy(made);
  return refused == LABOUS_WASM_OK ? code : refused;
}

/* What labous_alloc gives. */
API int32_t labous_wasm_alloc(labous_wasm *made, int32_t bytes, uint32_t *address) {
  RETURN_GUARDED(*address = w2c_module_labous_alloc(&made->module, (u32)bytes));
}

/* What the function gives. */
API int32_t labous_wasm_call(labous_wasm *made, uint32_t input, int32_t n, uint32_t output, int32_t capacity,
                             int32_t *result) {
  RETURN_GUARDED(*result = (int32_t)made->called(&made->module, input, (u32)n, output, (u32)capacity));
}

API int32_t labous_wasm_write(labous_wasm *made, uint32_t address, const void *from, uint32_t bytes) {
  RETURN_GUARDED(memcpy(inside(made, address, bytes), from, bytes));
}

API int32_t labous_wasm_read(labous_wasm *made, uint32_t address, void *to, uint32_t bytes) {
  RETURN_GUARDED(memcpy(to, inside(made, address, bytes), bytes));
}
