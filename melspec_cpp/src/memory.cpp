#include "memory.h"

#include "arena.h"
#include "cold.h"

#ifndef __wasm__

// With memmove, the native library's only imports.
extern "C" void *aligned_alloc(decltype(sizeof 0) alignment, decltype(sizeof 0) bytes);
extern "C" void free(void *);

namespace melspec {

void *allocate(int64_t bytes) {
  if (bytes < 0 || bytes > PTRDIFF_MAX - kAlignment) return nullptr;  // of 32 bits, on some boards
  const decltype(sizeof 0) rounded = (static_cast<decltype(sizeof 0)>(bytes) + kAlignment - 1) & ~(kAlignment - 1);
  return aligned_alloc(kAlignment, rounded);
}

void release(void *memory) { free(memory); }

bool accessible(const void *pointer, int64_t, int alignment) {
  return pointer && reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

}  // namespace melspec

#else

extern "C" char __heap_base;  // from the linker: the first byte after data and stack

namespace melspec {
namespace {

constexpr uint32_t kPage = 65536;
constexpr int32_t kMemory = 0;
constexpr uint32_t kMost = 0xffff0000;  // of an address: the last page is left alone, so that none wraps

// A block lies between its header and the next; the free ones are listed by address, so that neighbours merge.
struct alignas(16) Block {
  uint32_t bytes;  // without the header
  Block *next;     // while free; kTaken while not
};

Block *const kTaken = reinterpret_cast<Block *>(0x4d454c33);  // no block's address: it is odd

Block *free_list = nullptr;
uint32_t heap_end = 0;

Block *after(Block *block) { return reinterpret_cast<Block *>(reinterpret_cast<char *>(block + 1) + block->bytes); }

MELSPEC_COLD __attribute__((noinline)) void insert(Block *block) {
  Block *before = nullptr, *behind = free_list;
  while (behind && behind < block) {
    before = behind;
    behind = behind->next;
  }
  block->next = behind;
  if (behind && after(block) == behind) {
    block->bytes += sizeof(Block) + behind->bytes;
    block->next = behind->next;
  }
  if (!before) {
    free_list = block;
  } else if (after(before) == block) {
    before->bytes += sizeof(Block) + block->bytes;
    before->next = block->next;
  } else {
    before->next = block;
  }
}

// Turns fresh pages into one free block of at least `bytes`.
MELSPEC_COLD bool grow(uint32_t bytes) {
  uint32_t start = heap_end ? heap_end : (reinterpret_cast<uint32_t>(&__heap_base) + 15) & ~15u;
  uint64_t end = static_cast<uint64_t>(start) + sizeof(Block) + bytes;
  if (end > kMost) return false;
  uint64_t size = static_cast<uint64_t>(__builtin_wasm_memory_size(kMemory)) * kPage;
  if (end > size) {
    uint32_t pages = static_cast<uint32_t>((end - size + kPage - 1) / kPage);
    if (__builtin_wasm_memory_grow(kMemory, pages) == static_cast<decltype(sizeof 0)>(-1)) return false;
    size += static_cast<uint64_t>(pages) * kPage;
  }
  if (size > kMost) size = kMost;
  heap_end = static_cast<uint32_t>(size);
  Block *block = reinterpret_cast<Block *>(start);
  block->bytes = heap_end - start - sizeof(Block);
  insert(block);
  return true;
}

MELSPEC_COLD void *take(uint32_t bytes) {
  for (Block **link = &free_list; *link; link = &(*link)->next) {
    Block *block = *link;
    if (block->bytes < bytes) continue;
    if (block->bytes >= bytes + 2 * sizeof(Block)) {
      Block *rest = reinterpret_cast<Block *>(reinterpret_cast<char *>(block + 1) + bytes);
      rest->bytes = block->bytes - bytes - sizeof(Block);
      rest->next = block->next;
      block->bytes = bytes;
      *link = rest;
    } else {
      *link = block->next;
    }
    block->next = kTaken;
    return block + 1;
  }
  return nullptr;
}

}  // namespace

MELSPEC_COLD void *allocate(int64_t bytes) {
  if (bytes < 0 || bytes > 0xf0000000) return nullptr;
  uint32_t rounded = (static_cast<uint32_t>(bytes) + 15) & ~15u;
  void *memory = take(rounded);
  if (!memory && grow(rounded)) memory = take(rounded);
  return memory;
}

// What is not a taken block's address is left alone.
void release(void *memory) {
  Block *block = static_cast<Block *>(memory) - 1;
  const uint32_t start = (reinterpret_cast<uint32_t>(&__heap_base) + 15) & ~15u;
  const uint32_t address = reinterpret_cast<uint32_t>(block);
  if (address >= start && address < heap_end && address % 16 == 0 && block->next == kTaken) insert(block);
}

bool accessible(const void *pointer, int64_t bytes, int alignment) {
  uint32_t address = reinterpret_cast<uint32_t>(pointer);
  uint64_t size = static_cast<uint64_t>(__builtin_wasm_memory_size(kMemory)) * kPage;
  return address != 0 && address % alignment == 0 && static_cast<uint64_t>(address) + bytes <= size;
}

}  // namespace melspec

// What a compiler may call without being asked; with bulk memory there is an instruction for it.
extern "C" void *memmove(void *to, const void *from, decltype(sizeof 0) bytes) {
  char *a = static_cast<char *>(to);
  const char *b = static_cast<const char *>(from);
  if (a < b)
    for (decltype(bytes) i = 0; i < bytes; ++i) a[i] = b[i];
  else
    while (bytes--) a[bytes] = b[bytes];
  return to;
}

extern "C" void *memcpy(void *to, const void *from, decltype(sizeof 0) bytes) { return memmove(to, from, bytes); }

extern "C" void *memset(void *to, int value, decltype(sizeof 0) bytes) {
  for (decltype(bytes) i = 0; i < bytes; ++i) static_cast<char *>(to)[i] = static_cast<char>(value);
  return to;
}

#endif
