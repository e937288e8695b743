"""What happens when a worker dies or stops in the middle of a training: one line, exit code 2.

A worker that is killed makes TensorFlow raise an error at once. One that is stopped, or whose
network is gone, makes it wait, for minutes or for ever. It waits inside C++, where Python handles
no signal: only another thread can end the process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import keras
import tensorflow as tf

from sedona_tf.cluster.addresses import parse_addresses, unresponsive
from sedona_tf.errors import UserError

__all__ = ["Watchdog", "guarded"]

PROBE_TIMEOUT_SECONDS = 5.0
PROBE_AFTER_SECONDS = 40.0
"""With two probes, a worker that is stopped is reported within a minute."""
END_AFTER_SECONDS = 1800.0
HOW_TO_RESUME = "resume from the last checkpoint"
HOW_TO_RESTART = f"start it again and {HOW_TO_RESUME}"


class Watchdog(keras.callbacks.Callback):
    """Ends the process when no step ends any more and a worker does not answer; see `guarded`.

    As a callback it is told of each step of training, evaluation and prediction. After `limit`
    seconds without one it probes the workers. If a worker does not answer twice, for 5 s each
    time, the process ends. While all answer, the step may be slow (the first one traces the model).
    The process then ends after `patience` seconds only. Time during which this process itself is
    stopped does not count.

    Args:
        addresses: the workers' `host:port`, task 0 first.
        limit: seconds without a step after which workers are probed.
        patience: seconds without a step after which the process ends although all answer.

    Example: without workers there is nothing to watch; `guarded` starts and stops one.
        >>> watchdog = Watchdog([], limit=5.0)
        >>> watchdog.start()
        >>> watchdog.stop()
    """

    def __init__(
        self,
        addresses: Sequence[str],
        limit: float = PROBE_AFTER_SECONDS,
        patience: float = END_AFTER_SECONDS,
    ) -> None:
        super().__init__()
        if not limit > 0 or not patience >= limit:
            raise UserError(
                "limit must be above 0 and at most patience, in seconds. "
                f"Received: limit={limit}, patience={patience}"
            )
        self.addresses = list(addresses)
        self.limit = limit
        self.patience = patience
        self._steps = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Starts to watch; without addresses there is nothing to watch."""
        if self.addresses:
            self._thread.start()

    def stop(self) -> None:
        """Watches no longer."""
        self._stopped.set()

    def report_progress(self) -> None:
        """Tells that a step has ended."""
        self._steps += 1

    def on_train_begin(self, logs=None) -> None:
        self.report_progress()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.report_progress()

    def on_test_batch_end(self, batch, logs=None) -> None:
        self.report_progress()

    def on_predict_batch_end(self, batch, logs=None) -> None:
        self.report_progress()

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.report_progress()

    def _watch(self) -> None:
        tick = min(1.0, self.limit / 4)
        steps_seen, idle_seconds, next_probe = -1, 0.0, self.limit
        while not self._stopped.wait(tick):
            idle_seconds += tick
            if self._steps != steps_seen:
                steps_seen, idle_seconds, next_probe = self._steps, 0.0, self.limit
            elif idle_seconds >= next_probe:
                lost = self._unresponsive() and self._unresponsive()
                if self._stopped.is_set() or self._steps != steps_seen:
                    continue
                idle = f"no step for {idle_seconds:.0f} s"
                if lost:
                    _exit(f"{_named(self.addresses, lost)} ({idle}); {HOW_TO_RESTART}")
                if idle_seconds >= self.patience:
                    _exit(f"{idle} although all workers answer")
                next_probe = idle_seconds + self.limit

    def _unresponsive(self) -> dict[str, str]:
        return unresponsive(self.addresses, min(PROBE_TIMEOUT_SECONDS, self.limit))


@contextlib.contextmanager
def guarded(
    addresses: str | Sequence[str],
    limit: float = PROBE_AFTER_SECONDS,
    patience: float = END_AFTER_SECONDS,
) -> Iterator[Watchdog]:
    """Watches over the workers while a model that lives on them is used.

    Saving, draining and predicting belong in here too: they fetch from the workers.

    Args:
        addresses: as given to `connect`; nothing is watched if there are none.
        limit: see `Watchdog`.
        patience: see `Watchdog`.

    Yields:
        The `Watchdog`, to be given as a callback to `fit`, `evaluate`, `predict`, `Ensemble`.

    Raises:
        UserError: if TensorFlow fails and a worker is the cause; names its address.

    Example:
        >>> with guarded("", limit=5) as watchdog:
        ...     callbacks = [watchdog]
    """
    if isinstance(addresses, str):
        addresses = parse_addresses(addresses) if addresses else []
    watchdog = Watchdog(addresses, limit, patience)
    watchdog.start()
    try:
        yield watchdog
    except tf.errors.OpError as error:
        problem = _blame(error, watchdog)
        if problem is None:
            raise
        raise UserError(problem) from error
    finally:
        watchdog.stop()


def _blame(error: tf.errors.OpError, watchdog: Watchdog) -> str | None:
    """Says in one line which worker caused an error; None if none did."""
    addresses = watchdog.addresses
    lost = unresponsive(addresses, PROBE_TIMEOUT_SECONDS)
    if lost:
        return f"{_named(addresses, lost)}; {HOW_TO_RESTART}"
    message, names = str(error), ", ".join(addresses)
    if "probably restarted" in message or "Unable to find a context_id" in message:
        # The task that TensorFlow names may be the one that noticed.
        return (
            f"one of the workers {names} was started again and lost the training; {HOW_TO_RESUME}"
        )
    if isinstance(error, tf.errors.UnavailableError) and "remote target" in message:
        return (
            f"a connection broke although all workers answer ({names}): one was started again, or "
            f"they cannot reach each other or this process; {HOW_TO_RESUME}"
        )
    return None


def _named(addresses: Sequence[str], lost: dict[str, str]) -> str:
    """`worker 10.0.0.2:2222 (task 1) does not answer: connection refused`, for each."""
    return ", ".join(
        f"worker {address} (task {task}) does not answer: {lost[address]}"
        for task, address in enumerate(addresses)
        if address in lost
    )


def _exit(message: str) -> NoReturn:
    """Ends the process from any thread, whatever the others wait for."""
    threading.Timer(5.0, os._exit, [2]).start()  # in case the output is stuck too
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os.write(2, f"\nerror: {message}\n".encode())
    os._exit(2)
