"""Why an alert was raised, in sentences, from its message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_INPUTS, MAX_HEADS = 6, 4
CHANNELS = {
    "residual": "the measured value is unusually far from its prediction",
    "novelty": "the target's own value is unlike those that it had before, at such times or in such steps",
    "shape": "the latest cycle of the values has another shape than those before",
    "levels": "the level of inputs or target is unlike that of the past",
}
ENDED = {
    "recovered": "it ended as errors were normal again",
    "absorbed": "it ended as the lasting change was taken as the new normal",
    "stopped": "it ended as the entity had left its operating condition (event.when) for 100 events in a row",
    "ttl": "it ended as the entity has had no labelled event for state.ttl",
    "reset": "it ended by a reset of the entity's state",
    "rewind": "it ended by a rewind of the state",
    "disabled": "it ended as the rule was switched off",
}

RECOVERED = {
    "limit": "it ended as the value was within its limit again",
    "silence": "it ended as something came again",
    "stuck": "it ended as the value changed again",
}
"""How an alert of a rule recovers: no errors are behind it."""


def explain_message(message: Mapping[str, Any]) -> list[str]:
    """Return sentences on why an alert was raised."""
    return list(_sentences(message))


def _sentences(message: Mapping[str, Any]) -> Iterator[str]:
    if message.get("summary"):
        yield str(message["summary"])
    if others := [each["target"] for each in message.get("targets") or [] if each["target"] != message.get("target")]:
        yield f"It began with the target {message.get('target')}; open as well: {', '.join(map(str, others))}."
    if message.get("score") is not None and message["kind"] in ("anomaly", "drift"):
        budget = f" ({message['budget']})" if message.get("budget") else ""
        yield f"Its score is {message['score']:.3g}: above 1 is more than the budget of false alarms allows{budget}."
    if (channel := message.get("channel")) is not None:
        yield f"Channel {channel}: {CHANNELS.get(channel, 'one that another package brings')}."
    if message.get("change"):
        yield f"The errors are {message['change']} than before."
    if message.get("limit"):
        yield f"The fixed limit is: {message['limit']}."
    y, low, high = (message.get(name) for name in ("y", "yhat_lower", "yhat_upper"))
    if y is not None and low is not None and high is not None and message.get("scope") != "fleet":
        where = "inside" if low <= y <= high else "outside"
        yield f"At that event the value was {y:.6g}, {where} the interval {low:.6g} to {high:.6g}."
    if parts := message.get("contributions"):
        listed = ", ".join(f"{each['feature']} {each['share']:+.0%}" for each in parts[:MAX_INPUTS] if _is_part(each))
        yield f"Inputs that moved the prediction most, by their share: {listed}."
    if heads := message.get("heads"):
        listed = ", ".join(_name(each) for each in heads[:MAX_HEADS])
        yield f"Heads with the largest weights (fast ones after a change, slow ones in calm periods): {listed}."
    for each in (message.get("weight_change") or [])[:MAX_INPUTS]:
        if isinstance(each, dict) and each.keys() >= {"feature", "before", "after"}:
            yield f"The weight of {each['feature']} went from {each['before']:.4g} to {each['after']:.4g}."
    if message.get("scope") == "fleet":
        yield f"It is of {message.get('count')} entities of one pool at once: seek a common cause first."
    if message.get("suppressed_by"):
        yield f"It is withheld from the alerts topic by: {message['suppressed_by']}."
    if end := message.get("ended_by"):
        how = RECOVERED.get(message["kind"]) if end == "recovered" else None
        yield f"As to its end: {how or ENDED.get(end, end)}."


def _is_part(each: Any) -> bool:
    return isinstance(each, dict) and isinstance(each.get("share"), int | float) and "feature" in each


def _name(head: Any) -> str:
    return str(head.get("head") or head.get("name")) if isinstance(head, dict) else str(head)
