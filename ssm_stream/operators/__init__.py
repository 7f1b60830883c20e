"""Monitoring as operators of a Bytewax dataflow: the steps that `ssm-stream run` is built of (docs/dataflow.md).

import ssm_stream.operators as sop

watched = sop.monitor("watch", events, "monitor.yaml")
op.output("page", op.filter("critical", watched.alerts, lambda alert: alert.severity == "critical"), sink)
"""

from ssm_stream.operators.codec import DecodeOut, decode, encode
from ssm_stream.operators.documents import PLACE
from ssm_stream.operators.failures import ItemError
from ssm_stream.operators.kafka import kafka_input, kafka_output
from ssm_stream.operators.monitor_operator import MonitorOut, monitor
from ssm_stream.operators.records import Alert, Prediction, RefusedEvent

__all__ = [
    "PLACE",
    "Alert",
    "DecodeOut",
    "ItemError",
    "MonitorOut",
    "Prediction",
    "RefusedEvent",
    "decode",
    "encode",
    "kafka_input",
    "kafka_output",
    "monitor",
]
