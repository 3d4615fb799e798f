"""A teacher of BirdNET's kind and file names, small enough for tests: 3 s at 48 kHz in, an embedding, a dense layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

EMBEDDING = 16


def write_teacher(folder: Path, labels: list[str], seed: int = 3) -> np.ndarray:
    """Write the model and its labels ("Scientific name_English name") to ``folder``; the whole file's bytes."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    samples = keras.Input(batch_shape=(1, 144000), name="samples")
    frames = keras.layers.Reshape((375, 384))(samples)
    heard = keras.layers.Dense(EMBEDDING, activation="relu")(frames)
    pooled = keras.layers.GlobalAveragePooling1D()(heard)
    logits = keras.layers.Dense(len(labels), bias_initializer="random_normal")(pooled)
    converted = tf.lite.TFLiteConverter.from_keras_model(keras.Model(samples, logits)).convert()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite").write_bytes(converted)
    (folder / "BirdNET_GLOBAL_6K_V2.4_Labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    return converted
