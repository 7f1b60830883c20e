"""Names of the faults for which a message is refused."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Why a message cannot be used: part of the contract with consumers of dead letters, as `ssm_stream.NAME`."""

    AHEAD = "Ahead"
    EMPTY = "Empty"
    EMPTY_ENTITY = "EmptyEntity"
    FORMAT_FAILED = "FormatFailed"
    LATE = "Late"
    MISSING_FIELD = "MissingField"
    NAME_TOO_LONG = "NameTooLong"
    NOT_AN_OBJECT = "NotAnObject"
    NOT_FINITE = "NotFinite"
    NOT_JSON = "NotJson"
    NOT_UTF8 = "NotUtf8"
    OUT_OF_RANGE = "OutOfRange"
    SCHEMA_MISMATCH = "SchemaMismatch"
    TOMBSTONE = "Tombstone"
    TOO_LARGE = "TooLarge"
    TOO_MANY_ENTITIES = "TooManyEntities"
    UNDELIVERABLE = "Undeliverable"
    UNKNOWN_SCHEMA = "UnknownSchema"
    UNMATCHED_LABEL = "UnmatchedLabel"
    WRONG_ID = "WrongId"
    WRONG_TIMESTAMP = "WrongTimestamp"
    WRONG_TYPE = "WrongType"
