"""The dataflows of the demonstration, each a process as in production."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

TIMEOUT = 60.0
"""Seconds without a result after which the demonstration fails."""


class DemoError(RuntimeError):
    """The demonstration failed; the text has the reason."""


def process_age() -> float:
    """Return the seconds since this process was started, to 10 ms."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


@contextlib.contextmanager
def dataflow(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ssm-stream run` exactly as in production; end it by SIGTERM."""
    command, log = [sys.executable, "-m", "ssm_stream", "run", str(config)], config.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
        if process.poll() not in (None, 0):
            raise DemoError(f"the dataflow ended with exit code {process.returncode}:\n{log.read_text()[-2000:]}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_page(address: str, flow: subprocess.Popen[bytes]) -> str:
    """Return the URL of the live page once it is served, which is not while the process starts."""
    import urllib.request  # the demonstration without a page does not wait for it

    url, deadline = f"http://{address}/ui/", time.monotonic() + TIMEOUT
    while flow.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            break
        time.sleep(0.05)
    return url
