"""The bundle in dist/: checksums, bill of materials, and an installation from it without an index, which runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
EXTRAS = ("excel", "zstd")
SPECIFIED = {"bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies"}


def check_sbom(path: Path) -> int:
    """Return how many components a bill of materials has; each is named in the dependencies once."""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document.keys() >= SPECIFIED, document.keys()
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    parts = [document["metadata"]["component"], *document["components"]]
    names = [part["bom-ref"] for part in parts]
    assert len(set(names)) == len(names)
    assert all(part.get("licenses") for part in parts), [part["name"] for part in parts if not part.get("licenses")]
    for each in document["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= set(names), each
    return len(parts)


def main() -> None:
    (archive,) = DIST.glob("ssm-stream-*-linux-*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        shutil.unpack_archive(archive, home)  # Python 3.11 of Debian has no filters for it yet
        (folder,) = (path for path in home.iterdir() if path.is_dir())
        parts = check_sbom(folder / "sbom.cdx.json")
        assert (folder / "docs" / "index.html").exists()
        target = home / "installed"
        # No index, no cache, nothing of this machine's settings: what is not in the folder is not there.
        environment = {"PATH": f"{target / 'bin'}:/usr/bin:/bin", "HOME": name, "PYTHON": sys.executable}
        environment |= {
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PIP_NO_CACHE_DIR": "1",
            "PIP_CONFIG_FILE": os.devnull,
        }
        subprocess.run([folder / "install.sh", target, *EXTRAS], cwd=home, env=environment, check=True)
        for command in (
            ["ssm-stream", "examples"],
            ["ssm-stream", "backtest", "examples/soft-sensor.yaml", "examples/plant.csv.gz", "--json"],
            ["ssm-stream", "demo", "--json"],
        ):
            quiet = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
            if quiet.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{quiet.stdout[-2000:]}{quiet.stderr[-2000:]}")
        # A file that was changed on the way is noticed.
        with (folder / "README.md").open("a", encoding="utf-8") as file:
            file.write("\n")
        damaged = subprocess.run(
            [folder / "install.sh", home / "other"], env=environment, capture_output=True, check=False
        )
        assert damaged.returncode == 1
        assert b"damaged" in damaged.stderr
    sys.stdout.write(f"{archive.name}: installs without a network and runs; {parts} components\n")


if __name__ == "__main__":
    main()
