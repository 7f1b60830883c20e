"""Monitoring as operators of a Bytewax dataflow, `ssm-stream run` in parts.

import ssm_stream.operators as sop

watched = sop.monitor("watch", events, "monitor.yaml")
op.output("page", op.filter("critical", watched.alerts, lambda alert: alert.severity == "critical"), sink)
"""

from ssm_stream.operators.documents import PLACE
from ssm_stream.operators.monitor import MonitorOut, monitor
from ssm_stream.operators.records import Alert, Prediction, RefusedEvent

__all__ = ["PLACE", "Alert", "MonitorOut", "Prediction", "RefusedEvent", "monitor"]
