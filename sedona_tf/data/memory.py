"""The size of what is held in memory."""

from __future__ import annotations

from sedona_tf.errors import UserError

__all__ = ["require_memory"]

_LARGEST = 4 * 2**30


def require_memory(name: str, size: int) -> None:
    """Refuses data above 4 GiB.

    Args:
        name: of the data.
        size: bytes of the images as arrays, decoded and resized.

    Raises:
        UserError: if they are more.
    """
    if size > _LARGEST:
        raise UserError(
            f"data '{name}' takes {size / 2**30:.1f} GiB; it is held in memory. Allowed: 4 GiB. "
            "A limit or a smaller image_size helps."
        )
