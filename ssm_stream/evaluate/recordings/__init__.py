"""Recorded files and frames as events."""

from __future__ import annotations

from ssm_stream.evaluate.recordings.exports.options import FileOptions, parse_options
from ssm_stream.evaluate.recordings.files import RecordingError
from ssm_stream.evaluate.recordings.recording import Recording, count_rows, read_recording

__all__ = ["FileOptions", "Recording", "RecordingError", "count_rows", "parse_options", "read_recording"]
