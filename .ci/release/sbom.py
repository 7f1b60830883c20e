"""A software bill of materials, in CycloneDX 1.6 (JSON), of the wheels in a folder: what an installation brings.

python .ci/release/sbom.py FOLDER > sbom.cdx.json
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
import zipfile
from datetime import UTC, datetime
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parents[1]))
import licences as installed

OURS = "ssm-stream"
NATIVE = {
    "nanobind": ("BSD-3-Clause", "https://github.com/wjakob/nanobind"),
    "robin-map": ("MIT", "https://github.com/Tessil/robin-map"),
}
"""What is compiled into the core: name → licence, source."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def metadata_of(wheel: Path) -> Message:
    """Return the METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def reference(about: Message) -> str:
    return f"pkg:pypi/{normalized(about['Name'])}@{about['Version']}"


def licences(about: Message) -> list[dict[str, Any]]:
    """As CycloneDX has them: an expression, else the classifiers' names, else the first line of the text, else what
    `licences.py` knows."""
    if expression := about["License-Expression"]:
        return [{"expression": expression}]
    names = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    names = [name for name in names if name != "OSI Approved"]
    text = str(about["License"] or "").strip()
    known = installed.KNOWN.get(normalized(about["Name"]))
    names = names or ([text.splitlines()[0][:80]] if text else [known] if known else [])
    return [{"license": {"name": name}} for name in names]


def component(wheels: list[Path]) -> dict[str, Any]:
    """Return the component of a package, which may have several wheels: one a Python."""
    about = metadata_of(wheels[0])
    found: dict[str, Any] = {
        "type": "application" if normalized(about["Name"]) == OURS else "library",
        "bom-ref": reference(about),
        "name": about["Name"],
        "version": about["Version"],
        "description": about["Summary"] or "",
        "purl": reference(about),
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{wheel.name}",
                "name": wheel.name,
                "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
            }
            for wheel in wheels
        ],
    }
    if licensed := licences(about):
        found["licenses"] = licensed
    return found


def needed(about: Message, present: dict[str, str]) -> list[str]:
    """References of the packages in the folder that this one needs, without extras."""
    environment = {**default_environment(), "extra": ""}
    requirements = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    wanted = [r for r in requirements if r.marker is None or r.marker.evaluate(environment)]
    return sorted({present[normalized(r.name)] for r in wanted if normalized(r.name) in present})


def sbom(folder: Path) -> dict[str, Any]:
    """Return the document of the wheels in a folder, of which one is ssm-stream's."""
    wheels = sorted(folder.glob("*.whl"))
    abouts = {wheel: metadata_of(wheel) for wheel in wheels}
    present = {normalized(about["Name"]): reference(about) for about in abouts.values()}
    ours = [wheel for wheel, about in abouts.items() if normalized(about["Name"]) == OURS]
    if not ours:
        raise SystemExit(f"{folder}: no wheel of {OURS}")
    native = [
        {
            "type": "library",
            "bom-ref": f"compiled-in:{name}",
            "name": name,
            "licenses": [{"license": {"id": licence}}],
            "externalReferences": [{"type": "vcs", "url": url}],
        }
        for name, (licence, url) in NATIVE.items()
    ]
    packages: dict[str, list[Path]] = {}
    for wheel, about in abouts.items():
        packages.setdefault(reference(about), []).append(wheel)
    depends: list[dict[str, Any]] = [
        {"ref": name, "dependsOn": sorted({r for wheel in some for r in needed(abouts[wheel], present)})}
        for name, some in packages.items()
    ]
    for each in depends:
        if each["ref"] == present[OURS]:
            each["dependsOn"] = [*each["dependsOn"], *(part["bom-ref"] for part in native)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(ours),
        },
        "components": [*(component(some) for some in packages.values() if some != ours), *native],
        "dependencies": depends,
    }


if __name__ == "__main__":
    json.dump(sbom(Path(sys.argv[1])), sys.stdout, indent=2)
    sys.stdout.write("\n")
