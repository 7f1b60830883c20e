"""mkdocs hooks: files from outside docs/ that are pages of the site, and links that lead to them.

The same Markdown is read in the repository and on the site. There, `../benchmarks/README.md` is a file; here it is the
page benchmarks.md. A link to a file of the repository that is no page becomes its text.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "README.ja.md": "ja.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "benchmarks/README.md": "benchmarks.md",
    "tests/README.md": "tests.md",
    "configs": "examples.md",
}
"""Path in the repository → page of the site."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def example_pages() -> str:
    """All files of configs/, one after the other."""
    first = "As they lie in `configs/` of the repository. `ssm-stream examples` writes three of them with recordings."
    parts = ["# Example configurations", "", first, ""]
    for path in sorted((ROOT / "configs").glob("*.yaml"), key=lambda p: (p.stem == "reference", p.stem)):
        parts += [f"## {path.name}", "", "```yaml", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(parts)


def on_config(config: Any) -> Any:
    """Put the version into the site's name: each release is built with its own documentation."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    config["site_name"] = f"{config['site_name']} {version}"
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/."""
    for source, page in PAGES.items():
        if (path := ROOT / source).is_dir():
            files.append(File.generated(config, page, content=example_pages()))
        elif path.exists():
            files.append(File.generated(config, page, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Lead links to where the files are on the site."""
    uri = page.file.src_uri
    source = next((s for s, p in PAGES.items() if p == uri), f"docs/{uri}")

    def led(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        where, hash_, anchor = target.partition("#")
        if not where or re.match(r"[a-z]+:", where):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), where))
        if path.startswith("configs/"):
            path, hash_, anchor = "configs", "#", posixpath.basename(path).replace(".", "")
        there = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:
            return text  # the file is in the repository, and not on the site
        relative = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"{picture}[{text}]({relative}{hash_}{anchor})"

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(led, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(led, markdown[end:])])
