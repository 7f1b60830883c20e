"""The configurations of the demonstration: the examples as they come with the package, for the embedded broker."""

from __future__ import annotations

from pathlib import Path

import yaml

from ssm_stream.evaluate.examples import Example, example_file


def write_config(example: Example, brokers: str, folder: Path, page: str | None = None) -> Path:
    """Write the configuration of an example into a folder, and return its path.

    Its brokers are others, and it has no recovery: a demonstration ends by itself, and nothing has to survive it.

    Args:
        page: address of a live page; None: without an HTTP server
    """
    content = yaml.safe_load(example_file(example.config).read_text(encoding="utf-8"))
    content["source"]["brokers"] = brokers
    content["recovery"] = {"directory": None}
    content["ops"] = {"address": page, "ui": page is not None}
    if page is not None:
        content["alerts"]["feedback"] = {"topic": "feedback"}
    path = folder / example.config
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
