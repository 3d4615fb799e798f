"""A bundle's model ahead of time: from the float32 .tflite to C, and from C to a library or a WebAssembly module.

graph.py reads the file, lower.py turns operators into calls of kernels.c, memory.py places tensors in the arena,
generate.py writes the C, build.py compiles it. ``include/labous_model.h`` is the interface of what comes out.
"""
