"""The sentence of an alert: entity, target, value, what was expected, what changed, since when, in English or Japanese.

`evidence` reads what the message does not have from the state captured at the event, `numbers` and `times` round,
`values` writes a value and its prediction, `words` has the templates, `summarizer` puts the sentence together.
"""

from ssm_stream.engine.alert_summary.evidence import NO_EVIDENCE, Evidence, Members, read_evidence
from ssm_stream.engine.alert_summary.summarizer import Summarizer

__all__ = ["NO_EVIDENCE", "Evidence", "Members", "Summarizer", "read_evidence"]
