"""The values of `event.derive`: inputs that are computed from fields of the event."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, model_validator

from ssm_stream.config.sections.base import Path, Section

MAX_DERIVED = 64
MAX_FACTORS, MAX_OVER, MAX_LAG = 8, 512, 64
OPERATIONS = ("ratio", "product", "difference", "log", "rolling_mean")
Pair = Annotated[list[Path], Field(min_length=2, max_length=2)]
Factors = Annotated[list[Path], Field(min_length=2, max_length=MAX_FACTORS)]


class Derived(Section):
    """An input that is computed from numbers of the event: by one operation, `ratio` to `rolling_mean`."""

    ratio: Pair | None = None
    """Paths of two numbers, the first divided by the second; unknown where that is 0."""
    product: Factors | None = None
    """Paths of 2 to 8 numbers, multiplied."""
    difference: Pair | None = None
    """Paths of two numbers, the first less the second."""
    log: Path | None = None
    """Path of a number: its natural logarithm, unknown where it is not above 0."""
    rolling_mean: Path | None = None
    """Path of a number: the mean of the known values in the last `over` events of the entity, this one among them."""
    over: Annotated[int, Field(ge=2, le=MAX_OVER)] | None = None
    """Events of `rolling_mean`."""
    lag: Annotated[int, Field(ge=0, le=MAX_LAG)] = 0
    """The value is that of so many events of the entity before. 1 or more lets it use a target."""

    @model_validator(mode="after")
    def _usable(self) -> Derived:
        found = [name for name in OPERATIONS if getattr(self, name) is not None]
        if len(found) != 1:
            what = f"{' and '.join(found)}: two inputs, give each a name of its own" if found else "no operation"
            raise ValueError(f"found {what}; write one of {', '.join(OPERATIONS)}")
        if self.operation == "rolling_mean" and self.over is None:
            raise ValueError("rolling_mean: over how many events? write `over: 20`")
        if self.operation != "rolling_mean" and self.over is not None:
            raise ValueError(f"over: found {self.over} with {self.operation}; it is for rolling_mean: leave it out")
        return self

    @property
    def operation(self) -> str:
        """Which of OPERATIONS it is."""
        return next(name for name in OPERATIONS if getattr(self, name) is not None)

    @property
    def sources(self) -> list[str]:
        """Paths of the numbers that it is computed from."""
        found: list[str] | str = getattr(self, self.operation)
        return [found] if isinstance(found, str) else found

    def uses(self, paths: Collection[str]) -> bool:
        """Return whether it is computed from one of these."""
        return not set(paths).isdisjoint(self.sources)

    @property
    def past(self) -> int:
        """Number of the entity's earlier events that it depends on."""
        return (self.over or 1) + self.lag - 1

    @property
    def text(self) -> str:
        """The computation in a few words, such as `power / flow`."""
        a, *rest = self.sources
        words = {
            "ratio": " / ".join([a, *rest]),
            "product": " × ".join([a, *rest]),
            "difference": " − ".join([a, *rest]),
            "log": f"log({a})",
            "rolling_mean": f"mean of {a} over {self.over} events",
        }[self.operation]
        return words if not self.lag else f"{words}, {self.lag} event{'s' if self.lag > 1 else ''} before"
