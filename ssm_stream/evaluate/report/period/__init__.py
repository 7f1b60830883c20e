"""The report on a stretch of time, for a team's weekly meeting: alerts, feedback, errors, silence, planned stops."""
