"""The example configurations and their recordings, as they come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import ssm_stream.data


class Example(NamedTuple):
    """Names of files: a configuration, its recording, the true events in it, and the recording's licence."""

    config: str
    recording: str
    labels: str | None = None
    licence: str | None = None


PLANT = Example("soft-sensor.yaml", "plant.csv.gz", "plant-labels.csv")
SERVICES = Example("service-metrics.yaml", "services.csv.gz", "services-labels.csv")
PARKING = Example("forecast-fleet.yaml", "parking_birmingham.csv.gz", licence="LICENCE-parking.txt")
EXAMPLES = (PLANT, SERVICES, PARKING)


def example_file(name: str) -> Path:
    """Return the path of a configuration or recording that comes with the package."""
    data = Path(ssm_stream.data.__file__ or "").parent
    if not name.endswith(".yaml"):
        return data / name
    installed = data / "configs" / name
    return installed if installed.exists() else data.parents[1] / "configs" / name  # a checkout has them at its top


def write_examples(folder: Path) -> list[Path]:
    """Copy the examples into a folder, which is created; return the files. Files of these names are overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(example_file(name), folder / name)) for name in _names()]


def changed_examples(folder: Path) -> list[Path]:
    """Return the files of the folder that have the name of an example's and another content."""
    there = [folder / name for name in _names() if (folder / name).exists()]
    return [path for path in there if path.read_bytes() != example_file(path.name).read_bytes()]


def _names() -> list[str]:
    return [name for example in EXAMPLES for name in example if name is not None]
