"""Keras on TensorFlow, whatever keras.json and the environment say.

A package that uses Keras imports this module before anything else.
"""

from __future__ import annotations

import os

from sedona_tf.errors import UserError

VARIABLE = "KERAS_BACKEND"


def _import_keras() -> None:
    """Imports Keras with TensorFlow as its backend; leaves the environment as it was.

    Raises:
        UserError: if this process has imported Keras with another backend.
    """
    given = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "tensorflow"
    try:
        import keras
    finally:
        del os.environ[VARIABLE]
        if given is not None:
            os.environ[VARIABLE] = given
    if (found := keras.config.backend()) != "tensorflow":
        raise UserError(
            f"sedona_tf needs Keras on TensorFlow, but this process imported it on {found}; "
            f"import sedona_tf.decoupled before Keras, or set {VARIABLE}=tensorflow."
        )


_import_keras()
