"""How the kernels are compiled: fused loops without the GIL, kept on disk between starts.

numba's cache notices a change of the file that a function stands in, not of the functions that it calls in other files,
and a kernel that mixes old and new code would be silently wrong. So the cache folder is named by a hash of all sources.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

# The kernels' vector loops are written out (simd.py); what LLVM's third level unrolls beyond that only outgrows the
# processor's instruction cache: a tenth of the time an event, and half the compilation. The bits are the same.
os.environ.setdefault("NUMBA_OPT", "2")

import llvmlite.binding as llvm
import numba as nb
from numba.core import inline_closurecall, ir

# Nor are loops unrolled whose number of rounds is known only when they run: another fifteenth, in a fifth less code.
# LLVM ends the process at an option that it does not know, so only where these are known to be there.
if llvm.llvm_version_info[0] <= 22:
    for option in ("--force-vector-interleave=1", "--unroll-runtime=false"):
        llvm.set_option("ssm-stream", option)

Function = TypeVar("Function", bound=Callable[..., object])


def _cache_folder() -> Path:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssm-stream" / name
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return home
    except OSError:
        pass  # a read-only or missing home, as in many containers
    return Path(tempfile.gettempdir()) / f"ssm-stream-{os.getuid()}" / name


# numba looks at the environment again before it compiles, and where that has changed since, as by the line above after
# another module's import of numba, forgets what was set here. So it is to look now.
nb.config.reload_config()  # type: ignore[no-untyped-call]
if "NUMBA_CACHE_DIR" not in os.environ:
    nb.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]  # set by numba at import


def _share_variables_while_inlining() -> None:
    """Make `inlined` functions cheap to compile: a fifth of a first start.

    numba writes a function out at a call from a copy of its blocks, and copies with each block the table of all
    variables, twice (numba issue 8989). What is copied was made for this one call, so that the copies may share the
    table: the machine code is the same, byte for byte. Nothing changes where a later numba has other names for this.
    """
    worker: Any = getattr(inline_closurecall, "InlineWorker", None)
    inline = getattr(worker, "inline_function", None)
    scope: Any = getattr(ir, "Scope", None)
    if inline is None or scope is None or hasattr(scope, "__deepcopy__"):
        return
    depth = 0  # numba compiles under a lock

    def inline_function(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        depth += 1
        scope.__deepcopy__ = lambda itself, _: itself
        try:
            return inline(self, *args, **kwargs)
        finally:
            depth -= 1
            if not depth:
                del scope.__deepcopy__

    worker.inline_function = inline_function


_share_variables_while_inlining()


def jit(function: Function) -> Function:
    """Compile at the first call, in strict IEEE arithmetic: the order of every sum is the one that is written.

    With relaxed sums (fastmath) the bits would depend on how LLVM happens to inline a function, which differs between
    the process that compiles and the one that loads the result from disk.

    Kernels allocate nothing: their arrays belong to the caller. So numba need not count references (`_nrt`), which for
    structs of forty arrays cost more than the mathematics: 3.9 against 1.7 µs an event. A slice that would need an
    allocation is refused at compile time.
    """
    return _compile(function)


def inner(function: Function) -> Function:
    """As `jit`, for what only other kernels call: no way in from Python is made, which halves the compilation."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: Function) -> Function:
    """Written out where it is called, for what is called once: a struct of a hundred arrays is slow to hand over."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always")


def short(function: Function) -> Function:
    """As `jit`, but it keeps the GIL: for what takes microseconds.

    Whoever lets the GIL go waits for it afterwards, beside busy threads half a millisecond; and so does each operation
    of numpy on more than 500 numbers, for which such a kernel stands.
    """
    return _compile(function, nogil=False)


def _compile(function: Function, *, nogil: bool = True, **options: bool | str) -> Function:
    njit: Any = nb.njit  # `_nrt` is in no type stub
    return cast(Function, njit(nogil=nogil, cache=True, error_model="numpy", _nrt=False, **options)(function))
