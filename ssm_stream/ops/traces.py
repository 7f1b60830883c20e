"""OpenTelemetry traces of a sample of batches, by the semantic conventions for messaging, over OTLP/HTTP.

A trace is a chunk of messages of one partition, with a span for decoding, learning and sending. Whether it is traced,
and its ids, follow from topic, partition and first offset, so that each stage decides by itself, in any thread.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from typing import TYPE_CHECKING

import structlog

from ssm_stream.config import Config, ConfigError
from ssm_stream.ops.observers import ChunkPlace, RunObserver

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

OPERATIONS = {"decode": ("poll", "receive"), "learn": ("process", "process"), "produce": ("send", "send")}
"""Stage → name and type of the operation in the conventions."""
ROOT = "decode"
LOG = structlog.get_logger("ssm_stream.ops")
SHARE = 0.01
"""Of the batches that are traced."""
CURE = "pip install -e '.[otel]', or leave ops.traces out"


def _share() -> float:
    """Return the share of the batches that are traced: that of OpenTelemetry's own variable, else `SHARE`."""
    text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    try:
        share = float(text or SHARE)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        LOG.warning("traces_share_unknown", found=text, used=SHARE, cure="set OTEL_TRACES_SAMPLER_ARG to 0 to 1")
        return SHARE
    return share


class Traces(RunObserver):
    """Exports a span of each stage of the batches that are traced.

    Raises:
        ConfigError: the OpenTelemetry packages are not installed.
    """

    def __init__(self, config: Config) -> None:
        assert config.ops.traces is not None
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
        except ImportError as error:
            raise ConfigError(f"ops.traces: the package {error.name} is not installed; {CURE}") from None
        given = threading.local()

        class Given(IdGenerator):
            """Uses given ids for a root span, and random ones for its children."""

            def generate_trace_id(self) -> int:
                return int(given.trace)

            def generate_span_id(self) -> int:
                return int(given.span) or RandomIdGenerator().generate_span_id()

        resource = Resource.create({"service.name": "ssm-stream", "ssm_stream.config_hash": config.hash})
        self._provider: TracerProvider = TracerProvider(resource=resource, id_generator=Given())
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=config.ops.traces)))
        self._tracer = self._provider.get_tracer("ssm_stream")
        self._trace, self._given, self._config = trace, given, config
        self._threshold = int(_share() * 2**64)

    def observe_stage(self, stage: str, seconds: float, chunk: ChunkPlace | None = None) -> None:
        """Export the span of a stage of `OPERATIONS` that has just ended, if its chunk is traced."""
        if chunk is None:
            return
        topic, partition, first, messages = chunk
        digest = hashlib.blake2b(f"{topic}-{partition}-{first}".encode(), digest_size=32).digest()
        if int.from_bytes(digest[:8]) >= self._threshold:
            return
        trace = self._trace
        trace_id, root = int.from_bytes(digest[8:24]), int.from_bytes(digest[24:])
        ended = time.time_ns()
        name, kind = OPERATIONS[stage]
        sinks = self._config.sinks
        to = topic if stage != "produce" else sinks.predictions or sinks.alerts or sinks.dead_letters
        if stage == ROOT:
            self._given.trace, self._given.span, context = trace_id, root, None
        else:
            self._given.span = 0
            above = trace.SpanContext(trace_id, root, is_remote=False, trace_flags=trace.TraceFlags(1))
            context = trace.set_span_in_context(trace.NonRecordingSpan(above))
        kinds = {"decode": trace.SpanKind.CLIENT, "learn": trace.SpanKind.CONSUMER, "produce": trace.SpanKind.PRODUCER}
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": to,
            "messaging.batch.message_count": messages,
        }
        if stage != "produce":
            attributes |= {
                "messaging.destination.partition.id": str(partition),
                "messaging.consumer.group.name": self._config.source.group_id,
                "messaging.kafka.offset": first,
            }
        began = ended - round(seconds * 1e9)
        span = self._tracer.start_span(f"{name} {to}", context, kinds[stage], attributes, start_time=began)
        span.end(ended)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()
