"""Events topic → predictions, alerts, dead letters.

    SSM_STREAM_CONFIG=monitor.yaml python -m bytewax.run flows.monitor

Bytewax's own options (`-w`, `-r`, `-s`, `-b`) apply. With `-r`, give the directory that the configuration names in
`recovery.directory`: it is created, locked and pruned here before Bytewax opens it. With `-b`, give the seconds of an
epoch, so that a start can go back by one epoch after a power failure. `ssm-stream run CONFIG` does all of this by
itself, and is the way to run several processes.
"""

import os

from ssm_stream.flow.runtime import prepare
from ssm_stream.ops.supervisor import Supervisor

prepared = prepare(os.environ.get("SSM_STREAM_CONFIG", "monitor.yaml"))
supervisor = Supervisor(prepared.config, prepared.metrics, prepared.health, prepared.site)
supervisor.__enter__()  # until the process ends
flow = prepared.flow
