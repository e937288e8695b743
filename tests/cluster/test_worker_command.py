"""The worker command: help, refusals, and one life of a worker."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from sedona_tf.cluster.addresses import probe

COMMAND = [sys.executable, "-m", "sedona_tf.worker"]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def test_help_does_not_import_tensorflow():
    began = time.monotonic()
    result = run("--help")
    assert time.monotonic() - began < 1.0
    assert result.returncode == 0
    assert "--port" in result.stdout and "no password" in result.stdout
    code = "import sys, sedona_tf.worker; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "--port is required"),
        (("--port=65536",), "65536"),
        (("--port=0", "--host=192.0.2.1"), "address of this machine"),
    ],
)
def test_refusals(arguments, words):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr


def test_a_life():
    """Open on all addresses, which it says; alone on its port; ended by SIGTERM with 143."""
    worker = subprocess.Popen([*COMMAND, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(worker.stdout.readline, "")
        address = next(line for line in lines if "ready" in line).split()[-1]
        port = address.rpartition(":")[2]
        assert address.startswith("127.0.0.1:") and probe(address, 5.0) == "127.0.0.1"
        assert probe(f"127.0.0.2:{port}", 5.0)
        assert "without a password" in next(lines)
        second = run(f"--port={port}")
        assert second.returncode == 2
        assert second.stderr == f"error: port {port} cannot be opened: Address already in use.\n"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 128 + signal.SIGTERM
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
