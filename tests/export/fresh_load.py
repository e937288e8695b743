"""A process of its own: `FOLDER IN.npz OUT.npz`, by tf.saved_model.load and nothing else."""

import sys

import numpy as np


def main(folder: str, given: str, results: str) -> None:
    for name in ("keras", "sedona_tf"):  # TensorFlow imports Keras by itself where it can
        sys.modules[name] = None  # type: ignore[assignment]
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    outputs = {"signatures": np.array(sorted(loaded.signatures))}
    for key, images in np.load(given).items():
        signature = loaded.signatures[key.split("/")[0]]
        for name, value in signature(images=tf.constant(images)).items():
            outputs[f"{key}/{name}"] = value.numpy()
    np.savez(results, **outputs)
    assert not sys.modules["keras"] and not sys.modules["sedona_tf"]


if __name__ == "__main__":
    main(*sys.argv[1:])
