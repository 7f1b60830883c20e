"""`ssm-stream` in processes of its own that need not load it: they are forked from one that has.

Loading takes half a second of CPU, more than most runs of a test, and the tests start hundreds. Each process is as it
would be otherwise: a child of the test, with memory, files and threads of its own, which ends by itself or is killed.
The start is what tests/test_without_torch.py and others test, with a new interpreter.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import functools
import gc
import json
import os
import socket
import subprocess
import sys
from typing import Any

SUBREAPER = 36  # linux/prctl.h


class Forked(subprocess.Popen[str]):
    """`ssm-stream ARGUMENTS`, or Python code with them; options as those of `Popen`."""

    def __init__(self, *arguments: str, code: str = "", **options: Any) -> None:
        self._code = code
        super().__init__(["ssm-stream", *arguments], text=True, **options)

    def _execute_child(self, *given: Any) -> None:
        if sys.platform != "linux":
            how = ["-c", self._code] if self._code else ["-m", "ssm_stream"]
            super()._execute_child([sys.executable, *how, *given[0][1:]], *given[1:])  # type: ignore[misc]
            return
        (arguments, _, _, _, _, cwd, env, _, _, _), pipes = given[:10], given[10:16]
        files = [own if each == -1 else each for own, each in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {
            "arguments": arguments,
            "code": self._code,
            "directory": os.path.abspath(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
        }
        self.pid = _parent().fork(request, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def ran(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`ssm-stream ARGUMENTS`, to its end."""
    with Forked(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


class Parent:
    """A process that has loaded the product and forks others."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, __file__, str(other.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        atexit.register(self.close)

    def fork(self, request: dict[str, Any], files: list[int]) -> int:
        """The process's number. It becomes a child of this one, as its own parent ends at once."""
        prctl = ctypes.CDLL(None).prctl
        prctl(SUBREAPER, 1, 0, 0, 0)
        try:
            content = json.dumps(request).encode()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            self._socket.sendmsg([len(content).to_bytes(8, "little")], rights)
            for at in range(0, len(content), PART):
                self._socket.send(content[at : at + PART])
            return int(self._socket.recv(64))
        finally:
            prctl(SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(20)


PART = 50_000


@functools.cache
def _parent() -> Parent:
    return Parent()


def serve(server: socket.socket) -> dict[str, Any]:
    """Fork a process for each request until the other end is closed. Returns the request, in the new process."""
    while True:
        length, files, _, _ = socket.recv_fds(server, 8, 3)
        if not length:
            os._exit(0)
        content = b""
        while len(content) < int.from_bytes(length, "little"):
            content += server.recv(PART)
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid:
                os.write(write, b"%d" % pid)
                os._exit(0)
            break
        os.close(write)
        for file in files:
            os.close(file)
        os.waitpid(between, 0)
        server.send(os.read(read, 64))
        os.close(read)
    for place, file in enumerate(files):
        os.dup2(file, place)
    for file in (*files, read, write, server.detach()):
        os.close(file)
    request: dict[str, Any] = json.loads(content)
    return request


def main() -> None:
    """Load what `ssm-stream run` does, serve, and be what was asked for."""
    gc.disable()
    import numpy.random
    import typer.main

    import ssm_stream.cli.app
    import ssm_stream.flow.group.run
    import ssm_stream.flow.reload
    import ssm_stream.flow.restarts
    import ssm_stream.flow.runtime
    import ssm_stream.ops.logging

    assert numpy.random
    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(ssm_stream.cli.app.app)
    gc.freeze()
    gc.enable()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    if request["code"]:
        exec(compile(request["code"], "<test>", "exec"), {"__name__": "__main__"})
    else:
        ssm_stream.cli.app.main()


if __name__ == "__main__":
    main()
