"""A service of docker/compose.yaml as Docker would run it, as far as that goes without Docker: in a mount namespace of
its own with a read-only root, as the image's user, without capabilities, with the service's volumes and nothing else to
write to. Needs root, and a kernel that lets it mount.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

REPOSITORY = Path(__file__).parents[1]
DOCKER = REPOSITORY / "docker"

# $1: an empty folder, which becomes the root. Lines on standard input: how, from, to. The rest: what is run.
SCRIPT = r"""
set -eu
root=$1; shift
mount -t tmpfs -o mode=0755,size=1m tmpfs "$root"
mkdir -p "$root/proc" "$root/dev"
for link in /bin /sbin /lib /lib32 /lib64; do if [ -L $link ]; then cp -P $link "$root$link"; fi; done
while read -r how from to; do
  if [ "$how" = tmpfs ]; then mkdir -p "$root$to"; mount -t tmpfs -o "$from" tmpfs "$root$to"; continue; fi
  if [ "$how" = seal ]; then mount -o remount,ro "$root$to"; continue; fi
  if [ -d "$from" ]; then mkdir -p "$root$to"; else mkdir -p "$(dirname "$root$to")"; : > "$root$to"; fi
  mount --bind "$from" "$root$to"
  if [ "$how" = ro ]; then mount -o remount,bind,ro "$root$to"; fi
done
mount --rbind /proc "$root/proc"
mount -o remount,ro "$root"
exec chroot "$root" "$@" < /dev/null
"""


# What a slim image has of /etc, too; not all of it, as configurations are mounted there.
ETC = [f"/etc/{name}" for name in ("group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "resolv.conf", "ssl")]


class Image(NamedTuple):
    """What docker/Dockerfile says of the final image."""

    uid: int
    gid: int
    environment: dict[str, str]
    volumes: list[str]
    workdir: str
    entrypoint: list[str]


@functools.cache
def image() -> Image:
    final = instructions(DOCKER / "Dockerfile")
    final = final[max(i for i, (name, _) in enumerate(final) if name == "FROM") :]
    said = dict(final)
    uid, gid = map(int, said["USER"].split(":"))
    environment = dict(part.split("=", 1) for name, rest in final if name == "ENV" for part in shlex.split(rest))
    volumes, entrypoint = yaml.safe_load(said["VOLUME"]), yaml.safe_load(said["ENTRYPOINT"])
    return Image(uid, gid, environment, volumes, said["WORKDIR"], entrypoint)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and the rest of its line, continued lines joined, comments left out."""
    text = "\n".join(line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


@functools.cache
def services() -> dict[str, dict[str, Any]]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    found: dict[str, dict[str, Any]] = content["services"]
    return found


@functools.cache
def obstacle() -> str | None:
    """Why no such thing can be made here; None: it can."""
    if os.getuid() != 0:
        return "not root"
    if missing := [name for name in ("unshare", "setpriv", "chroot", "mount") if shutil.which(name) is None]:
        return f"no {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/tmp"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"nothing can be mounted here: {tried.stderr.strip()}"


def opened(path: Path) -> list[tuple[str, str, str]]:
    """Mounts of a file or folder, read-only. A checkout may lie in a folder that is closed to others, as `mktemp -d`
    makes it: then its place is taken by an open one with the same in it."""
    if not path.is_dir() or path.stat().st_mode & 0o005 == 0o005:
        return [("ro", str(path), str(path))]
    inside = [("ro", str(each), str(each)) for each in sorted(path.iterdir())]
    return [("tmpfs", "mode=0755,size=1m", str(path)), *inside, ("seal", "none", str(path))]


class Sandbox:
    """Services of compose.yaml, each with the volumes that it names. Named volumes are folders in `folder`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)

    def volume(self, name: str) -> Path:
        """A named volume; a new one belongs to the image's user, as Docker makes it from the image's folder."""
        path = self.folder / "volumes" / name
        if not path.exists():
            path.mkdir(parents=True, mode=0o700)
            os.chown(path, image().uid, image().gid)
        return path

    def start(self, service: str, *command: str) -> subprocess.Popen[str]:
        """The service's own command, or another in its place. The process is the command itself: signals reach it."""
        about, made = services()[service], image()
        program = Path(sys.prefix) / "bin"
        environment = {
            **{name: value for name, value in made.environment.items() if name != "PATH"},
            "PATH": f"{program}:/usr/bin:/bin",
            **self.environment,
        }
        asked = list(command) or [*made.entrypoint, *about["command"]]
        user = ["--reuid", str(made.uid), "--regid", str(made.gid), "--clear-groups", "--no-new-privs"]
        powerless = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        inside = ["env", "-i", "-C", made.workdir, *(f"{name}={value}" for name, value in environment.items()), *asked]
        root = self.folder / f"root-{service}"
        root.mkdir(exist_ok=True)
        around = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh", str(root)]
        process = subprocess.Popen(
            [*around, "setpriv", *user, *powerless, "--", *inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write("".join(f"{how} {source} {target}\n" for how, source, target in self._mounts(service)))
        process.stdin.close()
        process.stdin = None
        return process

    def _mounts(self, service: str) -> list[tuple[str, str, str]]:
        """How, from where, to where: the machine's programs and the product read-only, and what the service names."""
        about = services()[service]
        # Where /bin is no link to /usr/bin, as on older systems, it is mounted, too.
        own = [
            path for path in ("/bin", "/sbin", "/lib", "/lib64") if Path(path).is_dir() and not Path(path).is_symlink()
        ]
        programs = {"/usr", *own, *filter(os.path.exists, ETC), sys.base_prefix, sys.prefix, str(REPOSITORY)}
        within = {p for p in programs if any(p != q and Path(p).is_relative_to(q) for q in programs)}
        points = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
        nested = within - points  # a mount is not mounted with what is around it
        # First what might hide others: this repository, too, may lie under /tmp.
        mounts = [("tmpfs", options, at) for at, _, options in (e.partition(":") for e in about.get("tmpfs", []))]
        for path in sorted(programs - nested):
            mounts += opened(Path(path))
        mounts += [("rw", f"/dev/{name}", f"/dev/{name}") for name in ("null", "zero", "random", "urandom")]
        named = set()
        for entry in about.get("volumes", []):
            source, target, *how = entry.split(":")
            named.add(target)
            path = (DOCKER / source).resolve() if source.startswith(".") else self.volume(source)
            mounts.append((how[0] if how else "rw", str(path), target))
        # Docker gives the image's own volumes a folder where the service names none.
        mounts += [
            ("rw", str(self.volume(f"{service}{at}".replace("/", "-"))), at)
            for at in image().volumes
            if at not in named
        ]
        return mounts
