"""Events topic → predictions, alerts, dead letters: the dataflow of `ssm-stream run`, by Bytewax's own runner.

    python -m bytewax.run "flows.monitor:build('monitor.yaml')" -r ssm-stream-state -s 10 -b 10

Bytewax's options apply (`-w`, `-i`, `-a`). `-r` names the recovery directory, whatever `recovery.directory` is; it is
created where there is none, and `ssm-stream run` continues from it. With `-b`, give the seconds of an epoch (`-s`), so
that a start can go back by one epoch after a power failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow


def build(config: str = "monitor.yaml") -> Dataflow:
    """Return the dataflow. Nothing is opened before it runs. config: path of the configuration

    Raises:
        ConfigError: the configuration cannot be used.
    """
    from ssm_stream.flow.bytewax_runner import build_service  # an import of this module costs nothing

    return build_service(config)
