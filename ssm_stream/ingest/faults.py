"""Names of the faults for which a message is refused."""

from __future__ import annotations

import re
from enum import StrEnum

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


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


def describe_exception(error: BaseException, limit: int = 200) -> str:
    """Return type and text of an exception, without addresses of memory: the reasons of a message are the same each
    time. limit: characters of the text"""
    return f"{type(error).__name__}: {ADDRESS.sub('', str(error))[:limit]}"
