"""One events topic, two monitors: two targets with settings of their own, and output topics of their own.

    python -m bytewax.run "flows.two_monitors:build('quality.yaml', 'energy.yaml')" -r state -s 10 -b 10

Each is a whole configuration: both have the same `source`, and each its own `event`, `model`, `alerts` and `sinks`.
"""

from __future__ import annotations

import bytewax.operators as op
from bytewax.dataflow import Dataflow

import ssm_stream.operators as sop
from ssm_stream.config import load_config


def build(first: str = "first.yaml", second: str = "second.yaml") -> Dataflow:
    """Return the dataflow. first, second: paths of the configurations; events are read by the first"""
    settings, flow = load_config(first), Dataflow("two_monitors")
    decoded = sop.decode("decode", sop.kafka_input("source", flow, settings), settings)
    for name, file in (("first", first), ("second", second)):
        watched = sop.monitor(name, decoded.events, file)
        outputs = op.merge(f"{name}_outputs", watched.batches, decoded.letters) if name == "first" else watched.batches
        sop.kafka_output(f"{name}_sink", outputs, file)
    return flow
