"""The native core: learner, detectors and wire formats in C++, and the state that they work on.

`native` is the compiled module. It has the loops over events once an instruction set (x86-64-v2, -v3, -v4) and takes
the best that the processor has, or the one that the environment variable SSM_STREAM_ISA names: v2, v3 or v4. The
results are the same, to the last bit.
"""

from __future__ import annotations

import os

try:
    from ssm_stream.core import _core as native
except ImportError as error:
    why = "is not there" if error.name == __name__ else f"cannot be loaded: {error}"
    raise ImportError(
        f"the compiled core {why}; install the package on this machine (`pip install -e .`), "
        "or build it in place (`make core`)"
    ) from error

ISA: str = native.choose(os.environ.get("SSM_STREAM_ISA", ""))
"""The instruction set in use."""

__all__ = ["ISA", "native"]
