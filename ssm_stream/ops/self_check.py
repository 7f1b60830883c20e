"""The check after the start: the core, on this processor, against golden predictions of its definition.

`ssm-stream verify` does it thoroughly, on a recording and with its configuration.
"""

from __future__ import annotations

import math
import zipfile

import structlog

from ssm_stream.verify import golden

LOG = structlog.get_logger("ssm_stream.ops")
BAR = 1e-3
"""Deviation, in standard deviations of the target, above which the log has an error: far above rounding."""


def check_kernel() -> float:
    """Compare and log; the largest deviation, NaN where the golden predictions cannot be read."""
    try:
        found = golden.deviation()
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        LOG.warning("self_check_failed", error=str(error))
        return math.nan
    if found <= BAR:
        LOG.info("self_check", deviation=found, bar=BAR)
    else:
        LOG.error("self_check", deviation=found, bar=BAR, cure="run `ssm-stream verify` on a recording; see docs")
    return found
