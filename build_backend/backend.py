"""Builds the package by scikit-build-core; where the machine has no C++ compiler, by clang from the package index.

`ziglang` is a wheel with clang and its C++ library. It is asked for only without CXX, c++, g++ and clang++. Its first
use on a machine builds that library, which takes a minute of CPU time; it stays in the user's cache.

An editable installation is of use on this machine only: it is built for the instruction set of its processor alone,
in half the time, unless CMAKE_ARGS has -DSSM_ISAS=….

SSM_GLIBC=2.28 builds by it, whatever compilers there are, for machines with that version of glibc or a later one.
"""

import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from scikit_build_core import build
from scikit_build_core.build import (  # noqa: F401 - the hooks that need no compiler
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

COMPILERS = ("c++", "g++", "clang++")
ZIG = "ziglang>=0.13"
CURE = (
    "ssm-stream is built from C++ and found no compiler. Install one (Debian, Ubuntu: `apt-get install g++`; Fedora: "
    "`dnf install gcc-c++`), set CXX, or give pip an index within reach that has the package `ziglang`; or install a "
    "wheel of ssm-stream, which needs none."
)


def _has_compiler() -> bool:
    return not os.environ.get("SSM_GLIBC") and (bool(os.environ.get("CXX")) or any(map(shutil.which, COMPILERS)))


def _requires(of: list[str]) -> list[str]:
    if _has_compiler():
        return of
    if why := _out_of_reach():
        raise SystemExit(f"{CURE}\n{why}")
    return [*of, ZIG]


def _out_of_reach() -> str:
    """Return why pip does not get ziglang, in its words, which would not say what it is for; empty if it does."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--retries", "1", "--target", folder]
        # Isolated (-I): the pip of the installation, which builds hide.
        command = [sys.executable, "-I", "-m", "pip", "install", *options, ZIG]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    there = said.returncode == 0 or "No module named pip" in said.stderr  # another installer: it will see
    return "" if there else said.stderr.strip()


def get_requires_for_build_wheel(config_settings=None):
    return _requires(build.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None):
    return _requires(build.get_requires_for_build_editable(config_settings))


def _with_compiler(make, *args):
    if _has_compiler():
        return make(*args)
    try:
        import ziglang  # noqa: F401 - is it there?
    except ImportError:
        raise SystemExit(CURE) from None
    with tempfile.TemporaryDirectory() as folder:
        for tool in ("c++", "ar", "ranlib"):
            script = Path(folder) / tool
            # Without a processor, zig takes this machine's; with other options CMake's first trials would build zig's
            # own libraries in a form that the core does not use.
            options = f"-mcpu=baseline -O3 -fPIC {_target()}{_headers(Path(folder))}" if tool == "c++" else ""
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {tool} {options}"$@"\n')
            script.chmod(script.stat().st_mode | stat.S_IEXEC)
        os.environ["CXX"] = f"{folder}/c++"
        os.environ["CMAKE_ARGS"] = (
            f"{os.environ.get('CMAKE_ARGS', '')} -DCMAKE_AR={folder}/ar -DCMAKE_RANLIB={folder}/ranlib "
            "-DSSM_MARCH=x86_64_"
        )
        return make(*args)


def _target() -> str:
    """Return the options that name another glibc than this machine's."""
    glibc = os.environ.get("SSM_GLIBC")
    return f"-target {platform.machine()}-linux-gnu.{glibc} " if glibc else ""


def _headers(folder: Path) -> str:
    """Return the option for the Python headers that Debian keeps by architecture, where only its own compilers look.

    A link in the folder has those of this Python, and nothing of the machine's C library.
    """
    include, architecture = Path(sysconfig.get_path("include")), sysconfig.get_config_var("MULTIARCH") or ""
    apart = include.parent / architecture / include.name
    if not architecture or not (apart / "pyconfig.h").exists():
        return ""
    link = folder / "include" / architecture / include.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(apart)
    return f"-idirafter {folder}/include "


def _name_instruction_sets(isas: str, config_settings) -> None:
    """Name them in CMAKE_ARGS: the build's folder may remember those of an installation before."""
    arguments = os.environ.get("CMAKE_ARGS", "")
    if "SSM_ISAS" not in f"{arguments} {config_settings}":
        os.environ["CMAKE_ARGS"] = f"{arguments} -DSSM_ISAS={isas}"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _name_instruction_sets("v2;v3;v4", config_settings)
    return _with_compiler(build.build_wheel, wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _name_instruction_sets("here", config_settings)
    return _with_compiler(build.build_editable, wheel_directory, config_settings, metadata_directory)
