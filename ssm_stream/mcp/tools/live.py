"""The tool that explains a current prediction, by the live page of the process that holds the entity."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from ssm_stream.mcp.process_client import ProcessClient
from ssm_stream.mcp.results import LiveExplanation
from ssm_stream.mcp.tools.common import check_target

WAIT = 0.4
"""Seconds that an explanation of the next event is waited for, once."""
MAX_INPUTS, MAX_HEADS = 8, 5
NOT_YET = "the process explains the entity's next event: call again after that"
NO_PAGE = "serves no live page, which explains predictions: start it with --ui, or set ops.ui: true"


class LiveTools:
    """Explanations from running processes. targets: of the configuration"""

    def __init__(self, processes: ProcessClient, targets: list[str]) -> None:
        self._processes, self._targets = processes, targets

    def explain_entity(
        self,
        entity: Annotated[str, Field(max_length=600, description="Its exact name")],
        target: Annotated[
            str | None, Field(max_length=500, description="Path of the target, of several; null: the first")
        ] = None,
    ) -> LiveExplanation:
        """Explain the newest prediction of an entity, alarmed or not: base, contribution and weight of each input,
        heads, share learned from other entities. Needs a process with a live page; for an alert use get_alert."""
        check_target(target, self._targets)
        number = 0 if target is None else self._targets.index(target)
        notes = [] if self._processes.urls else ["no process is named: give --process URL"]
        for url in self._processes.urls:
            answer = self._get(url, entity, number)
            if answer.get("error"):
                notes.append(f"{url}: {answer['error']}")
            if not answer.get("known"):
                continue
            if answer["explanation"] is None:
                time.sleep(WAIT)
                answer = self._get(url, entity, number)
            found = answer.get("explanation")
            if target is None and len(self._targets) > 1:
                notes.append(f"explained is {self._targets[0]}, the first of {len(self._targets)} targets")
            sentences = [] if found is None else list(_sentences(found))
            return LiveExplanation(
                entity=entity, explanation=sentences, parts=found or {}, notes=notes if sentences else [*notes, NOT_YET]
            )
        if not notes:
            notes = [f"no process has had an event of {entity!r} since its start"]
        return LiveExplanation(entity=entity, explanation=[], parts={}, notes=notes)

    def _get(self, url: str, entity: str, target: int) -> dict[str, Any]:
        found = self._processes.get(url, "/ui/api/entity", name=entity, target=str(target))
        if found.status == 404:
            return {"error": NO_PAGE}
        return found.json() if found.status == 200 else {"error": found.text[:300]}


def _sentences(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"The prediction is {found['yhat']:.6g}: the base {found['base']:.6g}, and what follows."
    for each in found["parts"][:MAX_INPUTS]:
        value = "unknown" if each["value"] is None else f"{each['value']:.4g}"
        if each["reading"] is not None:
            value += f" (its reading, {each['reading']:.4g}, is too far off to be believed)"
        yield (
            f"{each['input']} contributes {each['contribution']:+.4g}: its value is {value}, its weight "
            f"{each['weight']:.4g} a standard deviation of the input."
        )
    if found["other_inputs"]["number"]:
        yield f"{found['other_inputs']['number']} more inputs: {found['other_inputs']['contribution']:+.4g}."
    yield f"The constant contributes {found['constant']:+.4g}, what is not linear {found['rest']:+.4g}."
    heads = ", ".join(f"{each['head']} {each['weight']:+.2f}" for each in found["heads"][:MAX_HEADS])
    yield f"Heads by their weight in the gate: {heads}."
    yield f"{found['fleet']:.0%} of it was learned from other entities."
