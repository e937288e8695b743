"""What all commands share: flags in, one line of error, exit code out."""

from sedona_tf.command_line.command import (
    help_text,
    page_of,
    print_and_exit,
    progress,
    run,
    start_tensorflow,
)

__all__ = ["help_text", "page_of", "print_and_exit", "progress", "run", "start_tensorflow"]
