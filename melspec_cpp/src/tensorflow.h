// Constants as TensorFlow computes them in float32, to the bit: in silence, the rounding of the window is all there is.
#pragma once

namespace melspec {

float hann_as_tensorflow(int i, int length);  // tf.signal.hann_window(length)[i]; the length is even

// What linear_to_mel_weight_matrix puts its triangles between: mels of the HTK scale, and value i of `count` from first
// to last.
float mel_as_tensorflow(float hertz);
float line_as_tensorflow(float first, float last, int i, int count);

}  // namespace melspec
