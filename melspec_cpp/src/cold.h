// Work done once per plan or stream, compiled for size: the module is to stay below 30 KB.
#pragma once

#if defined(__clang__)
#define MELSPEC_COLD __attribute__((minsize))
#else
#define MELSPEC_COLD
#endif
