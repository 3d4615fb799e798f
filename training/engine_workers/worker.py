"""Run one model file in one engine, in a process of its own: an engine may abort, segfault or need another numpy.

``python worker.py ENGINE MODEL INPUTS.npy OUTPUTS.npy`` writes the outputs; ``python worker.py ENGINE`` prints the
engine's version, or exits with 3 where it is not installed. It imports numpy and the engine, nothing of the project, so
that any environment can run it.
"""

import importlib.metadata
import sys

import numpy as np

NOT_INSTALLED = 3
# The interpreter commits what it touches only; more than any model of this project needs.
_MICRO_ARENA_BYTES = 64 * 2**20


def _tflite(interpreter_class, path, windows):
    interpreter = interpreter_class(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    source, sink = (
        details()[0]["index"] for details in (interpreter.get_input_details, interpreter.get_output_details)
    )
    for window in windows:
        interpreter.set_tensor(source, window)
        interpreter.invoke()
        yield interpreter.get_tensor(sink)


def litert(path, windows):
    from ai_edge_litert.interpreter import Interpreter

    return _tflite(Interpreter, path, windows)


def tflite_runtime(path, windows):
    from tflite_runtime.interpreter import Interpreter

    return _tflite(Interpreter, path, windows)


def tflite_micro(path, windows):
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(path, arena_size=_MICRO_ARENA_BYTES)
    for window in windows:
        interpreter.set_input(window, 0)
        interpreter.invoke()
        yield interpreter.get_output(0)


def onnxruntime(path, windows):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for window in windows:
        yield session.run(None, {name: window})[0]


def tract(path, windows):
    import tract as engine

    runnable = engine.onnx().load(path).into_model().into_runnable()
    for window in windows:
        yield runnable.run([window])[0].to_numpy()


# engine → how it runs, and the distribution that tells its version
ENGINES = {
    "litert": (litert, "ai-edge-litert"),
    "tflite_runtime": (tflite_runtime, "tflite-runtime"),
    "tflite_micro": (tflite_micro, "tflite-micro"),
    "onnxruntime": (onnxruntime, "onnxruntime"),
    "tract": (tract, "tract"),
}


def main():
    run, distribution = ENGINES[sys.argv[1]]
    if len(sys.argv) == 2:
        try:
            print(importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            sys.exit(NOT_INSTALLED)
        return
    model, inputs, outputs = sys.argv[2:]
    # one window at a time, with the batch axis of one that the file has
    windows = np.load(inputs)[:, np.newaxis]
    np.save(outputs, np.concatenate([np.array(output) for output in run(model, windows)]))


if __name__ == "__main__":
    main()
