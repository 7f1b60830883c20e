"""`ssm-stream`, and `python -m ssm_stream`: the same."""

from __future__ import annotations

import gc


def main() -> None:
    """Entry point."""
    gc.disable()  # of what modules make while they load, nothing is garbage: looking for it takes a tenth of a start
    from ssm_stream.cli.app import main as run_command

    gc.freeze()
    gc.enable()
    run_command()


if __name__ == "__main__":
    main()
