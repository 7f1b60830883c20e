"""Tools about the documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ssm_stream.mcp import documentation
from ssm_stream.mcp.results import DocumentPart, Section, Sections
from ssm_stream.mcp.tools.common import RefusedCallError

LENGTH = 8_000
"""Characters of a part of a page."""


class DocumentTools:
    """The documentation of ssm-stream, of this release."""

    def search_docs(
        self,
        query: Annotated[str, Field(min_length=2, max_length=300, description="Words, such as `lag grows`")],
        language: Annotated[Literal["en", "ja"], Field(description="ja: the few pages in Japanese")] = "en",
        limit: Annotated[int, Field(ge=1, le=20)] = 5,
    ) -> Sections:
        """Search the documentation: settings, alerts, messages, operation, runbook. Returns the sections that match
        best; read_doc returns a whole page."""
        found = documentation.search(query, limit, language)
        sections = [
            Section(page=each.page, heading=each.heading, excerpt=each.text[: documentation.EXCERPT]) for each in found
        ]
        return Sections(sections=sections, notes=[] if sections else ["nothing matches; try other words"])

    def read_doc(
        self,
        page: Annotated[str, Field(max_length=100, description="Its name, such as alerts.md or config/alerts.md")],
        heading: Annotated[str | None, Field(max_length=200, description="Begin at this heading")] = None,
        offset: Annotated[int, Field(ge=0, description="Begin at this character")] = 0,
    ) -> DocumentPart:
        """Return a page of the documentation, a part of 8,000 characters at a time."""
        text = documentation.pages().get(page)
        if text is None:
            raise RefusedCallError(f"no page {page!r}; there are: {', '.join(documentation.pages())}")
        if heading is not None:
            found = next((each for each in documentation.HEADING.finditer(text) if each[1] == heading), None)
            if found is None:
                raise RefusedCallError(f"{page} has no heading {heading!r}; search_docs returns headings")
            offset += found.start()
        end = offset + LENGTH
        return DocumentPart(
            page=page,
            text=text[offset:end],
            offset=offset,
            next_offset=end if end < len(text) else None,
            headings=[each[1] for each in documentation.HEADING.finditer(text)],
        )
