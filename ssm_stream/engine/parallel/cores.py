"""How many cores the process may use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux has the limits of a container."""


@cache
def cores() -> int:
    """Return the number of cores that this process may use: by its affinity, and by the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, cores_of_container(CGROUPS) or allowed)


def cores_of_container(folder: Path) -> int | None:
    """Return the whole cores that a container's limit allows, at least one; None without a limit. folder: of cgroups"""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if int(quota) > 0:  # −1 where there is none, by the older names
                return max(int(quota) // int(period), 1)
        except (OSError, ValueError, ZeroDivisionError):  # not there, or `max`
            continue
    return None
