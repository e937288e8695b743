"""Keras on TensorFlow, whatever keras.json and the environment say.

A package that uses Keras imports this module before anything else.
"""

from __future__ import annotations

import os

from sedona_tf.errors import UserError, first_line

BACKEND_VARIABLE = "KERAS_BACKEND"


def _import_keras() -> None:
    """Imports Keras with TensorFlow as its backend; leaves the environment as it was.

    Raises:
        UserError: if this process has imported Keras, or TensorFlow, which imports Keras, with
            another backend.
    """
    given = os.environ.get(BACKEND_VARIABLE)
    os.environ[BACKEND_VARIABLE] = "tensorflow"
    try:
        import keras

        found = keras.config.backend()
    except ImportError as error:  # TensorFlow goes on where its import of Keras fails
        found = f"another backend ({first_line(error)})"
    finally:
        del os.environ[BACKEND_VARIABLE]
        if given is not None:
            os.environ[BACKEND_VARIABLE] = given
    if found != "tensorflow":
        raise UserError(
            f"sedona_tf needs Keras on TensorFlow, but this process imported it on {found}; "
            f"set {BACKEND_VARIABLE}=tensorflow, or import sedona_tf.train before both."
        )


_import_keras()
