"""An explanation, and a reproduced alert, as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssm_stream.cli.terminal.alert_text import describe_alert
from ssm_stream.cli.terminal.console import new_table, output, print_table
from ssm_stream.cli.terminal.printable import printable
from ssm_stream.evaluate.report.explain_words import Words

if TYPE_CHECKING:
    from ssm_stream.engine.explain import Explanation
    from ssm_stream.flow.reproduce_alert import ReproducedAlert


def verdict(found: ReproducedAlert, text: Words) -> str:
    """The result of the comparison as a sentence, as of `ReproducedAlert.verdict`."""
    of = text(
        "of", n=f"{found.events:,}", topic=found.id.topic, partition=found.id.partition, first=found.first
    )  # fmt: skip
    config, state = found.replayed["config_hash"], found.replayed["state_hash"]
    hashes = text("hashes", config=config) if state is None else text("hashes.state", config=config, state=state)
    agree = found.audited - len(found.broken)
    audit = text("audit", n=found.audited, agree=agree) if found.audited else ""
    if found.same is None:
        return text("unsent", of=of, hashes=hashes, audit=audit)
    if found.same:
        return text("same", of=of, hashes=hashes, audit=audit)
    names = ", ".join(difference.path for difference in found.differences[:8]) or text("order")
    why = text("other_config", config=found.other_config) if found.other_config else ""
    return text("other", of=of, names=names, why=why, audit=audit)


def print_alert(found: ReproducedAlert, summary: str, top: int, text: Words) -> None:
    """Print a reproduced alert. summary: its sentence in the language; top: rows of the tables"""
    console = output()
    console.print(describe_alert({**found.replayed, "summary": summary}), markup=False)
    style = "" if found.same is None else "green" if found.same and not found.broken else "bold red"
    console.print(verdict(found, text), style=style, markup=False)
    for difference in found.differences:
        line = text("differs", path=difference.path, sent=difference.sent, replayed=difference.replayed)
        console.print(line, style="red", markup=False)
    for change in found.replayed.get("weight_change") or []:
        before, after = f"{change['before']:+.4g}", f"{change['after']:+.4g}"
        line = text("weight_moved", feature=text.name(change["feature"]), before=before, after=after)
        console.print(line, markup=False)
    if found.explanation is not None:
        console.print()
        print_explanation(found.explanation, top, text)


def print_explanation(found: Explanation, top: int, text: Words) -> None:
    """Print the parts of a prediction and its heads. top: rows of the tables"""
    console = output()
    head = text("at", entity=found.name, when=found.when, n=f"{found.n:,}", yhat=f"{found.yhat:.6g}")
    console.print(printable(head), markup=False)
    console.print(text("fleet", share=f"{found.fleet:.0%}"))
    columns = [text(key) for key in ("part", "value", "weight", "contribution")]
    table = new_table(columns, fold=columns[:1])
    table.add_row(text("base"), "", "", f"{found.base:.6g}")
    table.add_row(text("constant"), "", "", f"{found.constant:+.4g}")
    for part in found.parts[:top]:
        value = text.value(part.value, part.reading)
        shown = value if isinstance(value, str) else f"{value:.5g}"
        table.add_row(text.name(part.feature), shown, f"{part.weight:+.4g}", f"{part.contribution:+.4g}")
    others = found.parts[top:]
    if others:
        total = sum(part.contribution for part in others)
        table.add_row(text("others", n=len(others)), "", "", f"{total:+.4g}")
    table.add_row(text("rest"), "", "", f"{found.rest:+.4g}")
    table.add_section()
    table.add_row("yhat", "", "", f"{found.yhat:.6g}")
    if found.y is not None:
        table.add_row(text("target"), "", "", f"{found.y:.6g}")
        table.add_row(text("residual"), "", "", f"{found.y - found.yhat:+.4g}")
    print_table(table, console)
    columns = [text(key) for key in ("head", "answer", "gate")]
    for name, computed in found.derived.items():
        console.print(f"{name} = {computed}", markup=False)
    heads = new_table(columns, fold=columns[:1])
    for answer in found.answers[:top]:
        heads.add_row(text.name(answer.head), f"{answer.answer:.6g}", f"{answer.weight:+.3f}")
    if found.answers[top:]:
        total = sum(answer.weight for answer in found.answers[top:])
        heads.add_row(text("other_heads", n=len(found.answers) - top), "", f"{total:+.3f}")
    print_table(heads, console)
