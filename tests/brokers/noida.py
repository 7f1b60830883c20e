"""noida-db from PyPI: a broker in one small process, where Apache Kafka cannot run."""

from __future__ import annotations

import ctypes
import importlib.resources
import importlib.util
import os
import platform
import sys
from pathlib import Path

from brokers.base import LocalKafka

NOIDA_GLIBC = (2, 39)
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17  # linux/ptrace.h
ALL = 0x40000000  # __WALL: threads too


def _ptrace(request: int, thread: int) -> bool:
    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    return bool(ptrace(request, thread, None, None) == 0)


def hold(thread: int) -> bool:
    """Stop a thread of another process until `release`, or the end of the thread that calls this.

    Whether it could be: not everybody may trace others.
    """
    if sys.platform != "linux" or not (_ptrace(SEIZE, thread) and _ptrace(INTERRUPT, thread)):
        return False
    os.waitpid(thread, ALL)
    return True


def release(thread: int) -> None:
    """Have it go on. A held thread that ends keeps its process from ending."""
    _ptrace(DETACH, thread)


class NoidaKafka(LocalKafka):
    """noida-db in a process group of its own."""

    kind = "noida-db"

    def __init__(self, directory: Path) -> None:
        self._held: int | None = None
        super().__init__(directory)

    def command(self) -> list[str]:
        program = noida_program()
        assert program is not None
        program.chmod(program.stat().st_mode | 0o100)
        where = ["--host", "127.0.0.1", "--kafka-port", str(self.port), "--data-dir", str(self.directory)]
        return [str(program), "start", "--only", "kafka", *where]

    def on_started(self) -> None:
        """Its thread `autosave` writes all data anew, as JSON, every second in which any change: a whole processor and
        half a disk, which no Kafka takes. It is held where it sleeps, until `stop`; where that is not permitted it
        gives way to the others, but not altogether, as requests wait while it copies."""
        assert self.process is not None
        for name in Path(f"/proc/{self.process.pid}/task").glob("*/comm"):
            if name.read_text().strip() == "autosave":
                thread = int(name.parent.name)
                self._held = thread if hold(thread) else None
                if self._held is None:
                    os.setpriority(os.PRIO_PROCESS, thread, 10)

    def on_stopping(self) -> None:
        if self._held is not None:
            release(self._held)
            self._held = None


def noida_program() -> Path | None:
    """noida-db's binary, where the package is installed."""
    if importlib.util.find_spec("noida_db") is None:
        return None
    return Path(str(importlib.resources.files("noida_db") / "noida-db"))


def noida_obstacle() -> str | None:
    """Why noida-db cannot run here; None: it can."""
    program = noida_program()
    if program is None or not program.exists():
        return "noida-db is not installed (pip install noida-db==0.2.3)"
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < NOIDA_GLIBC:
        return f"noida-db needs glibc 2.39 or later, here is {library or 'no glibc'} {version}"
    return None
