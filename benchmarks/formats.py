"""Events in Avro and Protobuf: what reading them costs, and how fast one worker is with them.

    python benchmarks/formats.py [--events N] [--json]

Events of 8 numbers, a target, a name and a time, in chunks of 4,000. "decode": µs of one thread's processor time from
messages in memory to columns, by the decoder of `ssm-stream run`; of it "documents" is fastavro or protobuf, and
"columns" the check of every value. "run": `ssm-stream run` with one worker from a topic to predictions on another,
broker on the same machine: events a second, and µs of processor time of all its threads, which other work changes less.
The schema registry is that of the tests. See README.md.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import orjson
from google.protobuf import message_factory

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from clients import CHUNK, FEATURES
from confluent_kafka import Producer
from measuring import MissingError, check, child, fastest, hand_over, say, tell
from registry import FakeRegistry, fake_registry
from wire import cluster, configuration, create, delete, events, named, read

from ssm_stream.config import parse_config
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.formats.protobuf import compile_schema
from ssm_stream.kafka.formats.registry import FetchedSchema
from ssm_stream.kafka.records import Chunk

BAR = 60_000.0
"""Events a second on one worker."""
NAMES = ["target", *FEATURES]
Row = dict[str, Any]


class Message:
    """A message in memory, as the client shows it."""

    def __init__(self, offset: int, value: bytes) -> None:
        self._offset, self._value = offset, value

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_800_000_000_000


class Format(NamedTuple):
    """A form of the events: `event.format`, and their bytes."""

    name: str
    key: str
    write: Callable[[Row], bytes]


def avro(registry: FakeRegistry, name: str, number: Any) -> Format:
    """Return records whose numbers are of this type."""
    time_type = {"type": "long", "logicalType": "timestamp-millis"}
    fields = [{"name": "entity", "type": "string"}, {"name": "ts", "type": time_type}]
    schema = {"type": "record", "name": "Event", "fields": [*fields, *({"name": n, "type": number} for n in NAMES)]}
    frame = struct.pack(">bI", 0, registry.add(f"{name}-value", json.dumps(schema)))
    parsed = fastavro.parse_schema(schema)

    def write(row: Row) -> bytes:
        content = BytesIO()
        content.write(frame)
        fastavro.schemaless_writer(content, parsed, row)
        return content.getvalue()

    return Format(name, "avro", write)


def protobuf(registry: FakeRegistry, name: str, number: str, *, timestamp: bool) -> Format:
    """Return messages whose numbers are declared so, and whose time is a Timestamp or a number."""
    kind = "google.protobuf.Timestamp" if timestamp else "int64"
    fields = " ".join(f"{number} {n} = {i};" for i, n in enumerate(NAMES, 3))
    text = (
        'syntax = "proto3"; import "google/protobuf/timestamp.proto"; '
        f"message Event {{ string entity = 1; {kind} ts = 2; {fields} }}"
    )
    frame = struct.pack(">bI", 0, registry.add(f"{name}-value", text, "PROTOBUF")) + b"\0"
    made = message_factory.GetMessageClass(
        compile_schema(FetchedSchema("PROTOBUF", text)).message_types_by_name["Event"]
    )

    def write(row: Row) -> bytes:
        if not timestamp:
            return frame + made(**row).SerializeToString()
        message = made(**{key: value for key, value in row.items() if key != "ts"})
        message.ts.FromMilliseconds(row["ts"])
        return frame + message.SerializeToString()

    return Format(name, "protobuf", write)


def forms(registry: FakeRegistry) -> list[Format]:
    """Return all of them."""
    return [
        Format("JSON", "json", orjson.dumps),
        avro(registry, "Avro, double", "double"),
        avro(registry, "Avro, null or double", ["null", "double"]),
        protobuf(registry, "Protobuf, double", "double", timestamp=False),
        protobuf(registry, "Protobuf, optional double, Timestamp", "optional double", timestamp=True),
    ]


def more_of(form: Format, registry: FakeRegistry) -> tuple[str, str]:
    """Return lines of the section `event`, and of other sections."""
    return f"  format: {form.key}\n", f"schema_registry: {{url: '{registry.url}'}}\n"


def decoding(form: Format, registry: FakeRegistry, values: list[bytes]) -> dict[str, float]:
    """µs of this thread an event."""
    event, more = more_of(form, registry)
    config = parse_config(configuration("localhost:9092", "events", "predictions", "unused", event, more))
    decoder, reader, parser = Decoder(config), EventReader(config.event), message_format(config)
    chunks = [values[at : at + CHUNK] for at in range(0, len(values), CHUNK)]
    messages: list[Any] = [Message(i, value) for i, value in enumerate(values)]
    batches = [Chunk("events", 0, messages[at : at + CHUNK]) for at in range(0, len(values), CHUNK)]
    (first,) = decoder.decode(batches[0])
    if len(first[1].events) != len(batches[0].messages):  # type: ignore[union-attr]
        raise MissingError(f"{form.name}: not all messages were read")

    def cost(work: Callable[[], Any]) -> float:
        return fastest(4, work, len(values), time.thread_time)

    documents = [parser.parse(chunk, [])[0] for chunk in chunks]
    return {
        "decode_us": cost(lambda: [decoder.decode(batch) for batch in batches]),
        "documents_us": cost(lambda: [parser.parse(chunk, []) for chunk in chunks]),
        "columns_us": cost(lambda: [reader.read(some) for some in documents]),
    }


def run(
    broker: str, folder: Path, form: Format, registry: FakeRegistry, rows: list[Row], sinks: str
) -> dict[str, float]:
    """Events a second of one worker, from the topic to the predictions on the broker; µs of processor time an event."""
    at = named(f"formats-{form.key}-{sinks}-{abs(hash(form.name)) % 1000}")
    topics = [at, f"{at}-out", f"{at}-out-alerts", f"{at}-out-dead"]
    create(broker, topics)
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for row in rows:
        hand_over(producer, at, form.write(row), row["entity"])
        producer.poll(0)
    if left := producer.flush(60):
        raise MissingError(f"{left} events did not reach the broker within a minute")
    event, more = more_of(form, registry)
    text = configuration(broker, at, f"{at}-out", folder / f"{at}-state", event, more)
    path = folder / f"{at}.yaml"
    path.write_text(text.replace("sinks: {", f"sinks: {{format: {sinks}, "))
    job = {"broker": broker, "events": len(rows), "source": at, "sink": f"{at}-out", "partitions": 4}
    figures = child("clients.py", {**job, "config": str(path)}, "product", title=form.name)
    if (found := sum(1 for _ in read(broker, f"{at}-out"))) != len(rows):
        raise MissingError(f"{form.name}: {len(rows)} events, {found} predictions")
    delete(broker, topics)
    return {
        f"run_{sinks}": round(len(rows) / float(figures["seconds"])),
        f"run_{sinks}_cpu_us": round(1e6 * float(figures["cpu_seconds"]) / len(rows), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Events in Avro and Protobuf.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--part", choices=["decode", "run"], help="only this one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [row for _, row in events(arguments.events, 100)]
    measured: dict[str, dict[str, Any]] = {}
    checks = []
    with fake_registry() as registry, tempfile.TemporaryDirectory(prefix="formats-") as name:
        made = forms(registry)
        for form in made if arguments.part != "run" else ():
            values = [form.write(row) for row in rows[:100_000]]
            found = {"format": form.name, "bytes": round(sum(map(len, values)) / len(values), 1)}
            found |= {key: round(value, 2) for key, value in decoding(form, registry, values).items()}
            measured[form.name] = found
            if form.key != "json":
                checks.append(check(f"{form.name}: decode, events/s", 1e6 / found["decode_us"], ">=", BAR))
        if arguments.part != "decode":
            with cluster(Path(name)) as (broker, where):
                say(where)
                for form in made:
                    found = measured.setdefault(form.name, {"format": form.name})
                    for sinks in ("json", "avro"):
                        found |= run(broker, Path(name), form, registry, rows, sinks)
                    if form.key != "json":
                        checks.append(check(f"{form.name}: run, events/s", found["run_json"], ">=", BAR))
                        one = 1e6 / found["run_json_cpu_us"]
                        checks.append(check(f"{form.name}: run, events/s of processor time", one, ">=", BAR))
    if arguments.json:
        print(json.dumps({"rows": list(measured.values()), "checks": checks, "events": arguments.events}, indent=2))
        return
    for row in measured.values():
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stdout)
    tell(checks)


if __name__ == "__main__":
    main()
