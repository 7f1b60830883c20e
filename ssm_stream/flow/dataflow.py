"""The dataflow of the service, of the operators that are public: source → decode → monitor → sink.

events topic ─ source ─┬─ learn (state by shard) ─┬─ sink ─ predictions, alerts
                       └─ dead letters ───────────┤       └ dead letters
feedback topic, if any ┬─ dead letters ───────────┘
                       └─ count (log, state)

Its streams carry batches of columns. Source and sink have threads of their own, which decode and encode while the
worker learns: `decode` passes on what the source's thread has decoded, and `kafka_output` encodes in the sink's.
"""

from __future__ import annotations

from typing import TypeGuard, cast

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream

import ssm_stream.operators as sop
from ssm_stream.flow.feedback import Feedback, FeedbackDecoder, FeedbackLogic, feedback_topic
from ssm_stream.kafka.records import OutputBatch, PredictedBatch
from ssm_stream.operators.kafka import DeferredSource
from ssm_stream.operators.service import Service
from ssm_stream.operators.source import KafkaSource


def build(service: Service) -> Dataflow:
    """Return the dataflow of the service. Nothing is opened before it runs.

    The names of the steps are those under which recovery directories hold their state: they stay.
    """
    config, flow = service.settings, Dataflow("monitor")
    messages = sop.kafka_input("source", flow, config, batches=True, service=service)
    decoded = sop.decode("usable", messages, config, service=service)
    watched = sop.monitor("learn", decoded.events, config, service=service)
    letters = cast("KeyedStream[PredictedBatch | OutputBatch]", decoded.letters)
    outputs = op.merge("outputs", watched.batches, letters, *_feedback(flow, service))
    sop.kafka_output("sink", outputs, config, service=service)
    return flow


def _is_feedback(item: tuple[str, list[Feedback] | OutputBatch]) -> TypeGuard[tuple[str, list[Feedback]]]:
    return not isinstance(item[1], OutputBatch)


def _feedback(flow: Dataflow, service: Service) -> list[KeyedStream[PredictedBatch | OutputBatch]]:
    """Return the outputs of the feedback topic: its dead letters, and those of the count, which has none.

    The count must lead to the sink, too: Bytewax waits only for steps that do.
    """
    if feedback_topic(service.settings) is None:
        return []

    def open_source() -> KafkaSource:
        source = feedback_topic(service.config)
        assert source is not None
        return KafkaSource(
            source,
            service.partitions[source.topic],
            decoder=lambda: FeedbackDecoder(service.config),
            until_eof=service.until_eof,
            observers=service.observers,
        )

    decoded = op.input("feedback", flow, DeferredSource(open_source))
    split = op.branch("is_verdict", decoded, _is_feedback)
    counted = op.stateful_batch("count_feedback", split.trues, lambda state: FeedbackLogic(state, service.observers))
    return [counted, cast("KeyedStream[PredictedBatch | OutputBatch]", split.falses)]
