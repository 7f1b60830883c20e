"""Protobuf: the content of a message by its schema → a document.

The registry has the source of a schema; protoc compiles it in a process of its own, once a schema. Fields keep the
names that they have there. What has no presence and is not sent has its default, as everywhere in Protobuf; what has
one (a message, an `optional` field, a member of a `oneof`) and is not sent is missing from the document.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import DecodeError

from ssm_stream.ingest.json_values import text_of
from ssm_stream.kafka.formats.framing import read_indexes
from ssm_stream.kafka.formats.registry import FetchedSchema
from ssm_stream.kafka.formats.values import decimal_number, time_writer

Read = Callable[[bytes, int, bytes | None], Any]
Convert = Callable[[Any], Any]
MAIN = "ssm_stream_schema.proto"
"""Name of the file with the schema itself."""
COMPILE_TIMEOUT = 60.0
NANOS = 1_000_000_000


def protobuf_reader(schema: FetchedSchema, timestamp_format: str) -> Read:
    """Return the function that reads messages of a schema. timestamp_format: of the times in its documents

    Raises:
        ValueError: the schema cannot be used.
    """
    file = compile_schema(schema)
    readers: dict[tuple[int, ...], Callable[[bytes], Any]] = {}
    write_time = time_writer("ns", timestamp_format)

    def reader_of(indexes: tuple[int, ...]) -> Callable[[bytes], Any]:
        if indexes not in readers:
            readers[indexes] = _reader(_message_at(file, indexes), write_time)
        return readers[indexes]

    first = reader_of((0,))

    def read(value: bytes, start: int, indexes: bytes | None) -> Any:
        if indexes is not None:
            return reader_of(read_indexes(indexes, 0)[0])(value[start:])
        if value[start : start + 1] == b"\0":  # the first message, as almost always
            return first(value[start + 1 :])
        found, content = read_indexes(value, start)
        return reader_of(found)(value[content:])

    return read


def compile_schema(schema: FetchedSchema) -> FileDescriptor:
    """Return the description of a schema, in a pool of its own.

    Raises:
        ValueError: protoc refuses it.
    """
    pool = descriptor_pool.DescriptorPool()
    for file in _run_protoc(schema).file:
        pool.Add(file)
    return pool.FindFileByName(MAIN)


def _run_protoc(schema: FetchedSchema) -> descriptor_pb2.FileDescriptorSet:
    with tempfile.TemporaryDirectory(prefix="ssm-stream-protoc-") as name:
        folder = Path(name)
        sources, out = folder / "sources", folder / "out"
        known = _well_known()
        for file, text in (*schema.references, (MAIN, schema.text)):
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"it refers to {file!r}, which is no name of a schema")
            if (compiled := _compiled(text)) is not None:
                compiled.name = file
                known.file.append(compiled)
                continue
            (sources / path).parent.mkdir(parents=True, exist_ok=True)
            (sources / path).write_text(text, encoding="utf-8")
        sources.mkdir(exist_ok=True)
        compiled_files = folder / "compiled"
        compiled_files.write_bytes(known.SerializeToString())
        arguments = [
            f"-I{sources}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}", f"--descriptor_set_in={compiled_files}",
            "--include_imports", f"--descriptor_set_out={out}", MAIN,
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", *arguments],
            capture_output=True, text=True, check=False, timeout=COMPILE_TIMEOUT,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(f"protoc: {done.stderr.strip().replace(f'{folder}/', '')[:400]}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _compiled(text: str) -> descriptor_pb2.FileDescriptorProto | None:
    """Return the description in a schema that a serializer has registered compiled, as base64; None if it is source."""
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError):
        return None


def _well_known() -> descriptor_pb2.FileDescriptorSet:
    """Return the schemas that need no reference in a registry: Google's types, and Confluent's."""
    from confluent_kafka.schema_registry.common import protobuf as common

    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in found:
            return
        for each in file.dependencies:
            add(each)
        found[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)

    for module in vars(common).values():
        if isinstance(file := getattr(module, "DESCRIPTOR", None), FileDescriptor):
            add(file)
    return descriptor_pb2.FileDescriptorSet(file=found.values())


def _message_at(file: FileDescriptor, indexes: tuple[int, ...]) -> Descriptor:
    """Return the message at these indexes. Raises ValueError: there is none."""
    found: Descriptor | None = None
    for index in indexes:
        name, among = (file.name, list(file.message_types_by_name.values())) if found is None else (
            found.full_name, list(found.nested_types)
        )  # fmt: skip
        if index >= len(among):
            raise ValueError(f"the message has the index {index} in {name}, which has {len(among)} messages")
        found = among[index]
    assert found is not None
    return found


def _reader(descriptor: Descriptor, write_time: Convert) -> Callable[[bytes], Any]:
    parse = message_factory.GetMessageClass(descriptor).FromString
    convert = _Documents(write_time).of_message(descriptor)
    return lambda content: convert(parse(content))


class _Documents:
    """Makes functions from Protobuf's values to those of a document. write_time: from nanoseconds since 1970"""

    def __init__(self, write_time: Convert) -> None:
        self._write_time = write_time
        self._made: dict[str, Convert] = {}

    def of_message(self, descriptor: Descriptor) -> Convert:
        """Return the function for values of a message's type."""
        name = descriptor.full_name
        if (known := self._well_known(name)) is not None:
            return known
        if name not in self._made:
            made: list[Convert] = []
            self._made[name] = lambda message: made[0](message)  # for a message that contains itself
            made.append(self._of_fields(descriptor))
            self._made[name] = made[0]
        return self._made[name]

    def _of_fields(self, descriptor: Descriptor) -> Convert:
        always: list[tuple[str, Convert | None]] = []
        present: list[tuple[str, Convert | None]] = []
        for field in descriptor.fields:
            (present if field.has_presence and not field.is_repeated else always).append((field.name, self._of(field)))
        plain = [field for field, convert in always if convert is None]
        others = [(field, convert) for field, convert in always if convert is not None]

        def document(message: Any) -> dict[str, Any]:
            found = {name: getattr(message, name) for name in plain}
            for name, convert in others:
                found[name] = convert(getattr(message, name))
            for name, optional in present:
                if message.HasField(name):
                    value = getattr(message, name)
                    found[name] = value if optional is None else optional(value)
            return found

        return document

    def _of(self, field: FieldDescriptor) -> Convert | None:
        """Return the function for the values of a field; None: they stay as they are."""
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            inner = self._of(message.fields_by_name["value"])
            return lambda entries: {
                str(key): value if inner is None else inner(value) for key, value in sorted(entries.items())
            }
        one = self._of_one(field)
        if not field.is_repeated:
            return one
        return list if one is None else _of_each(one)

    def _of_one(self, field: FieldDescriptor) -> Convert | None:
        if field.message_type is not None:
            return self.of_message(field.message_type)
        if field.enum_type is not None:
            return _names(field.enum_type)
        return text_of if field.type == FieldDescriptor.TYPE_BYTES else None

    def _well_known(self, name: str) -> Convert | None:
        """Return the function for a type that every Protobuf has; None for another."""
        write_time = self._write_time
        match name:
            case "google.protobuf.Timestamp":
                return lambda time: write_time(time.seconds * NANOS + time.nanos)
            case "google.protobuf.Duration":
                return lambda duration: duration.seconds + duration.nanos / NANOS
            case "google.protobuf.BytesValue":
                return lambda wrapper: text_of(wrapper.value)
            case "google.protobuf.Struct":
                return lambda struct: {key: self._of_value(value) for key, value in sorted(struct.fields.items())}
            case "google.protobuf.Value":
                return self._of_value
            case "google.protobuf.ListValue":
                return lambda values: [self._of_value(value) for value in values.values]
            case "google.type.Date":
                return lambda date: f"{date.year:04}-{date.month:02}-{date.day:02}"
            case "confluent.type.Decimal":
                return lambda number: decimal_number(int.from_bytes(number.value, "big", signed=True), number.scale)
            case _ if name.startswith("google.protobuf.") and name.endswith("Value"):
                return lambda wrapper: wrapper.value
            case _:
                return None

    def _of_value(self, value: Any) -> Any:
        kind = value.WhichOneof("kind")
        if kind == "struct_value":
            return {key: self._of_value(each) for key, each in sorted(value.struct_value.fields.items())}
        if kind == "list_value":
            return [self._of_value(each) for each in value.list_value.values]
        return None if kind in (None, "null_value") else getattr(value, kind)


def _of_each(convert: Convert) -> Convert:
    return lambda values: [convert(value) for value in values]


def _names(enum: EnumDescriptor) -> Convert:
    names = {number: value.name for number, value in enum.values_by_number.items()}
    return lambda number: names.get(number, number)
