"""The flag `--blocks` of commands that take several numbers of blocks."""

from __future__ import annotations

from sedona_tf.errors import UserError

__all__ = ["numbers_of_blocks"]


def numbers_of_blocks(texts: list[str]) -> list[int]:
    """The value of a flag `--blocks`.

    Raises:
        UserError: if it is not whole numbers.
    """
    for text in texts:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise UserError(f"--blocks must be whole numbers, such as 2,4,8. Received: '{text}'")
    if not texts:
        raise UserError("--blocks must name at least one number of blocks. Received: none")
    return [int(text) for text in texts]
