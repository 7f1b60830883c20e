"""Columns of the tables of the hours at hand, as `core/aggregate/hours.cpp` has them."""

from __future__ import annotations

HOUR_MS = 3_600_000
NO_HOUR = -(1 << 40)
"""As `HOUR`: no event yet."""
FORGOTTEN = 14 * 24
"""Hours without an event after which the usual error is unknown again."""
HOUR, LAST, CHANGED, SOURCE, TIMES = range(5)
"""The hour at hand (since 1970), time of the last event (ms), whether anything was added since it was returned last,
and the index of the source; then their number."""
EVENTS, STOPPED, INSIDE_MS, OPEN_SINCE, STARTED = range(5)
"""Events, those in planned stops, ms inside episodes that have ended, and the time from which one is open in this hour,
ms (0: none is). From `STARTED` on the alerts that started, by kind."""
KINDS = ("anomaly", "drift", "limit", "silence", "stuck")
OF_TARGETS = STARTED + len(KINDS)
"""First column of the first target; each has `OF_TARGET` of them:"""
LABELLED, VALUES, PREDICTED, JUDGED, ERRORS, COVERED, SCORE, USUAL, WEIGHT, OF_TARGET = range(10)
"""Targets that were learned, their sum and that of their predictions; those past the warm-up, the sum of their errors,
those inside their interval, the highest score; of the hours before,
weighted by their age, the sum of errors and the number of targets; then their number."""
