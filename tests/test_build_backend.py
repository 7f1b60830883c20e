"""The build where there is no C++ compiler: it asks for one from the package index, or says what to do.

`.ci/build_without_compiler.sh` builds and tests there; here is what needs no minutes.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ASK = "import backend; print(*backend.get_requires_for_build_wheel())"
BUILD = "import sys; sys.modules['ziglang'] = None; import backend; backend.build_wheel('.')"


def run(program: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") and name != "CXX"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=known | {"PATH": str(path), "PYTHONPATH": str(ROOT / "build_backend")} | environment,
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("found", ["c++", "g++", "clang++", "CXX"])
def test_with_a_compiler_nothing_more_is_asked_for(tmp_path: Path, found: str) -> None:
    if found != "CXX":
        (tmp_path / found).write_text("#!/bin/sh\n")
        (tmp_path / found).chmod(stat.S_IRWXU)
    done = run(ASK, tmp_path, **({"CXX": "/opt/c++"} if found == "CXX" else {}))
    assert done.returncode == 0, done.stderr
    assert "ziglang" not in done.stdout


def test_without_a_compiler_clang_comes_from_the_index(tmp_path: Path) -> None:
    name = "ziglang-0.17.0-py3-none-any.whl"
    index = tmp_path / "index"
    made = f"""
import zipfile
with zipfile.ZipFile({str(index / name)!r}, "w") as wheel:
    wheel.writestr("ziglang/__init__.py", "")
    about = "ziglang-0.17.0.dist-info/"
    wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\\nName: ziglang\\nVersion: 0.17.0\\n")
    wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(about + "RECORD", "")
"""
    index.mkdir()
    assert run(made, index).returncode == 0
    done = run(ASK, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index))
    assert done.returncode == 0, done.stderr
    assert "ziglang>=" in done.stdout


@pytest.mark.parametrize("program", [ASK, BUILD])
def test_with_neither_the_error_has_the_cure(tmp_path: Path, program: str) -> None:
    done = run(program, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1
    assert "found no compiler. Install one" in done.stderr
    assert "apt-get install g++" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "named", "isas"),
    [("wheel", "", "v2;v3;v4"), ("editable", "", "here"), ("editable", "-DSSM_ISAS=v2", "v2")],
)
def test_only_an_editable_installation_is_for_this_machine_alone(
    tmp_path: Path, kind: str, named: str, isas: str
) -> None:
    program = f"""
import os, backend
backend.build.build_{kind} = lambda *_: print(os.environ["CMAKE_ARGS"])
backend.build_{kind}(".")
"""
    done = run(program, tmp_path, CXX="c++", CMAKE_ARGS=f"-DOTHER=1 {named}".strip())
    assert done.stdout.split() == ["-DOTHER=1", f"-DSSM_ISAS={isas}"]


def test_headers_that_debian_keeps_apart_are_found(tmp_path: Path) -> None:
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / "usr" / name).mkdir(parents=True)
    apart = tmp_path / "usr" / "x86_64-linux-gnu" / name
    (tmp_path / "folder").mkdir()
    program = f"""
import pathlib, sysconfig
sysconfig.get_path = lambda _: {str(tmp_path / "usr" / name)!r}
sysconfig.get_config_var = lambda _: "x86_64-linux-gnu"
import backend
print(backend._headers(pathlib.Path({str(tmp_path / "folder")!r})))
"""
    assert run(program, tmp_path).stdout.strip() == ""
    apart.mkdir(parents=True)
    (apart / "pyconfig.h").write_text("")
    assert run(program, tmp_path).stdout.strip() == f"-idirafter {tmp_path}/folder/include"
    assert (tmp_path / "folder" / "include" / "x86_64-linux-gnu" / name / "pyconfig.h").exists()
