"""The check after the start: the core, on this processor, against golden results, bit by bit.

`ssm-stream verify` does it thoroughly, on a recording and with its configuration.
"""

from __future__ import annotations

import math
import zipfile

import structlog

from ssm_stream import core
from ssm_stream.verify import golden

LOG = structlog.get_logger("ssm_stream.ops")


def check_core() -> float:
    """Compare and log; returns the largest deviation: 0 where all bits are the same, NaN without the golden results."""
    try:
        found = golden.deviation()
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        LOG.warning("self_check_failed", error=str(error))
        return math.nan
    if found == 0.0:
        LOG.info("self_check", isa=core.ISA, deviation=found)
    else:
        LOG.error("self_check", isa=core.ISA, deviation=found, cure="run `ssm-stream verify` on a recording; see docs")
    return found
