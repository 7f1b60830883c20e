"""The section `model`: the learner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ssm_stream.config.quantities import HalfLifeSetting, Horizon, HorizonSetting
from ssm_stream.config.sections.base import File, Section


class Embedding(Section):
    """The random features of the heads `embedding`, which learn what is not linear."""

    size: Literal[16, 32, 64, 128, 256] = 32
    """How many there are. More of them follow finer shapes, at more time and memory."""
    scale: Annotated[float, Field(ge=0.1, le=10.0)] = 1.0
    """Times their frequencies: above 1 for relations with sharper bends, below 1 for smoother ones."""


class Tuning(Section):
    """Parts and constants of the learner, which `ssm-stream tune` tries and `ssm-stream ablate` leaves out, on your own
    recording. What is left out is as it is best for most."""

    half_lives: list[HalfLifeSetting] | None = None
    """How fast the moment heads forget: `500 events`, or a time such as `6h`. Default: those of the weights."""
    window: Annotated[int, Field(ge=128, le=512)] = 512
    """Events that the heads of `profile: accurate` attend to."""
    embedding: Embedding = Embedding()
    log_space: bool = True
    """While no target is negative, some heads also predict on a log scale."""
    heads: list[Literal["moments", "products", "proximal", "embedding", "attention", "gd"]] | None = None
    """The heads that predict, for comparisons. Default: all of the profile; `gd` is the paper's one-step layer."""
    gate: Literal["learned", "equal", "heads"] = "learned"
    """How the predictions of heads and bases are weighted: by their past errors or, for comparisons, all alike
    (`equal`), or the heads alike and the bases not at all (`heads`)."""

    @model_validator(mode="after")
    def _heads(self) -> Tuning:
        if self.heads is not None and not self.heads:
            raise ValueError("heads: no head left; name at least one, or leave the key out")
        if self.heads is not None and "embedding" not in self.heads and self.embedding != Embedding():
            raise ValueError("embedding: found without that head; add embedding to heads, or leave the section out")
        if self.gate == "heads" and self.heads == ["attention"]:
            raise ValueError("gate: `heads` needs a head that predicts from the first event; found attention alone")
        if self.half_lives is not None and not self.half_lives:
            raise ValueError("half_lives: no head left; give at least one, or leave the key out")
        return self


class Model(Section):
    """The learner. The defaults are meant to be left alone."""

    horizon: HorizonSetting = Horizon(text="0")
    """What is predicted: `0`, the event's own target; `5 events`, the target of its entity's fifth event from it; `1h`,
    the target one hour later (of the first event then or up to half the horizon after)."""
    warmup: Annotated[int, Field(ge=10, le=100_000)] = 100
    """Labelled events of an entity before it may raise an alert."""
    interval: Annotated[float, Field(ge=0.5, le=0.999)] = 0.9
    """Share of targets that the prediction interval is to cover in the long run."""
    profile: Literal["fast", "accurate"] = "fast"
    """`accurate` adds attention over the last 512 events: smaller errors at several times the cost."""
    fleet: bool = True
    """Learn from all entities of a shard together; a new one starts from what was learned from the others."""
    weights: File | None = None
    """File of frozen meta-parameters, as `ssm-stream train` writes it; `untrained`: those that training starts from.
    Default: those of the package."""
    tuning: Tuning | None = None
    """Null: every part as it is best for most."""

    @property
    def tuned(self) -> Tuning:
        """`tuning`, or its defaults."""
        return self.tuning or Tuning()
