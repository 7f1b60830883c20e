"""Finds configured paths that no document has, and the nearest paths that there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ssm_stream.config import Config
from ssm_stream.config.paths import is_message_field
from ssm_stream.config.suggestions import column_paths, missing_path
from ssm_stream.ingest.paths import leaf_paths, path_getter

FIRST = 1000
"""Documents of a topic or a file in which a path must be found."""
MAX_KNOWN = 1000
"""Paths of documents that are collected."""
NOTHING = object()


class PathSearch:
    """Searches documents for the configured paths, until each is found. A null counts as found.

    columns: that all documents have

    Attributes:
        documents: objects that were searched
    """

    def __init__(self, config: Config, columns: Iterable[str] = ()) -> None:
        self.documents = 0
        self._known = dict.fromkeys(columns)
        self._open = {
            # A message without this header, or without a key, has null there.
            path: (key, path_getter(path, None if is_message_field(path) else NOTHING))
            for path, key in column_paths(config).items()
            if path not in self._known
        }

    @property
    def missing(self) -> list[str]:
        """The paths that no document had."""
        return list(self._open)

    def add(self, documents: Iterable[Any]) -> None:
        """Search documents; those that are no objects are passed over."""
        for document in documents:
            if type(document) is not dict:
                continue
            self.documents += 1
            if not self._open:
                continue
            for path, (_, get) in list(self._open.items()):
                found = get(document)
                if found is not NOTHING and not (found is None and is_message_field(path)):
                    del self._open[path]
            if len(self._known) < MAX_KNOWN:
                self._known |= dict.fromkeys(leaf_paths(document))

    def sentences(self, place: str) -> list[str]:
        """Return an error sentence for each path that is missing. place: what has the documents, such as a file"""
        known = [path for path in self._known if not is_message_field(path)]
        return [missing_path(key, path, known, place) for path, (key, _) in self._open.items()]


def missing_paths(config: Config, documents: Iterable[Any], place: str) -> list[str]:
    """Return an error sentence for each configured path that no message has; none without documents."""
    search = PathSearch(config, config.source.context_columns)
    search.add(documents)
    return search.sentences(place) if search.documents else []
