"""`ssm-stream`, and `python -m ssm_stream`: the same."""

from __future__ import annotations

import gc
import os
import signal


def main() -> None:
    """Entry point."""
    # Until a command begins (`app.ssm_stream`), Ctrl-C ends the process as SIGTERM does: an exception would be a
    # traceback of whatever module loads.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The matrices of a draft and a report are small: a second thread of OpenBLAS gains nothing, and where another
    # process has its core, each step waits for it. NumPy reads this as it loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # of what modules make while they load, nothing is garbage: looking for it takes a tenth of a start
    from ssm_stream.cli.app import main as run_command

    gc.freeze()
    gc.enable()
    run_command()


if __name__ == "__main__":
    main()
