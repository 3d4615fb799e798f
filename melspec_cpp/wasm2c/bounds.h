/* Put before the C that wasm2c makes of a stranger's module: its memory and tables are allocated within bounds. */
#ifndef LABOUS_BOUNDS_H
#define LABOUS_BOUNDS_H

#include "wasm-rt.h"

/* They do what wasm2c's runtime does, or trap where that would take more than the caller allows. */
void labous_allocate_memory(wasm_rt_memory_t *memory, uint64_t initial, uint64_t most, bool is64, uint32_t page_bytes);
void labous_allocate_funcref_table(wasm_rt_funcref_table_t *table, uint32_t initial, uint32_t most);
void labous_allocate_externref_table(wasm_rt_externref_table_t *table, uint32_t initial, uint32_t most);

#ifndef LABOUS_UNBOUNDED
#define wasm_rt_allocate_memory labous_allocate_memory
#define wasm_rt_allocate_funcref_table labous_allocate_funcref_table
#define wasm_rt_allocate_externref_table labous_allocate_externref_table
#endif

#endif
