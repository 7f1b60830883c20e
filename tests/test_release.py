"""What makes a release: the version, the changelog, the bill of materials, checksums, and the log of campaigns."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / ".ci" / "release"), str(ROOT / "benchmarks")]

import bundle  # noqa: E402  # the scripts of `make release`
import campaign  # noqa: E402
import check_bundle  # noqa: E402
import check_changelog  # noqa: E402
import sbom  # noqa: E402
import tested  # noqa: E402
import version  # noqa: E402
import wheels  # noqa: E402


def test_every_file_names_the_version_of_pyproject_toml() -> None:
    assert version.differing() == {}
    assert all(version.places(file) for file in version.NAMED)


def test_no_other_file_names_the_version() -> None:
    """But the changelog, which names all, and what says of which version it was made."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    own = {*version.NAMED, "pyproject.toml", "CHANGELOG.md"}
    pattern = re.compile(rf"(ssm[-_]stream[^\n]{{0,20}}|release[^\n]{{0,4}}){re.escape(version.current())}(?![\d.])")
    places = ("docs/", "docker/", "configs/", "ssm_stream/", "README", "Makefile", "mkdocs.yml", "flows/")
    for name in listed.stdout.splitlines():
        if name in own or not name.startswith(places) or not name.endswith((".md", ".py", ".yaml", ".yml", "file")):
            continue
        assert not pattern.search((ROOT / name).read_text(encoding="utf-8")), name


def test_tests_count_for_the_commit_that_they_ran_on() -> None:
    one, other = "1" * 40, "2" * 40
    assert tested.known(one, one)
    assert tested.known(one, other, one[:7])
    assert tested.known(one, "", one)
    assert not tested.known(one, other)
    assert not tested.known(one, other, other)
    assert not tested.known(one, "", "1"), "one digit names no commit"
    assert not tested.known("", "", ""), "a checkout with changes is no commit"


def test_a_version_is_set_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (*version.NAMED, "pyproject.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text())
    monkeypatch.setattr(version, "ROOT", tmp_path)
    version.write("7.8.9")
    assert version.current() == "7.8.9"
    assert version.differing() == {}
    changed = (tmp_path / "pyproject.toml").read_text().splitlines()
    before = (ROOT / "pyproject.toml").read_text().splitlines()
    assert sum(a != b for a, b in zip(changed, before, strict=True)) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("## Unreleased\n\n## 0.1.0 — 2026-11-27\n\n- x\n", ""),
        ("## 0.1.0 — 2026-11-27\n\n- x\n", ""),
        ("## Unreleased\n\n- y\n\n## 0.1.0 — 2026-11-27\n", "entries under Unreleased"),
        ("## Unreleased\n\n## 0.0.9 — 2026-11-27\n", "no section"),
        ("## 0.1.0\n\n- x\n", "no section"),
    ],
)
def test_a_release_has_a_dated_section(text: str, fault: str) -> None:
    assert fault in check_changelog.fault(text, "0.1.0")
    assert bool(fault) == bool(check_changelog.fault(text, "0.1.0"))


def wheel(folder: Path, name: str, number: str, *lines: str, tag: str = "py3-none-any") -> Path:
    path = folder / f"{name}-{number}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        about = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}", "Summary: s", *lines]
        archive.writestr(f"{name}-{number}.dist-info/METADATA", "\n".join(about) + "\n\nText\n")
    return path


def test_the_bill_of_materials_has_every_wheel_its_licence_and_what_it_needs(tmp_path: Path) -> None:
    needs = ("Requires-Dist: Lib.One>=1", "Requires-Dist: absent", "Requires-Dist: two; extra == 'x'")
    for tag in ("cp311-cp311-linux_x86_64", "cp312-cp312-linux_x86_64"):
        wheel(tmp_path, "ssm_stream", "0.1.0", "License-Expression: Apache-2.0", *needs, tag=tag)
    wheel(tmp_path, "lib_one", "1.2", "License: MIT License", "Requires-Dist: two")
    wheel(tmp_path, "two", "2", "Classifier: License :: OSI Approved :: BSD License")
    document = sbom.sbom(tmp_path)
    file = tmp_path / "sbom.json"
    file.write_text(json.dumps(document))
    assert check_bundle.check_sbom(file) == 3 + len(sbom.NATIVE)
    named: dict[str, Any] = {part["name"]: part for part in document["components"]}
    assert named["two"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert named["lib_one"]["purl"] == "pkg:pypi/lib-one@1.2"
    assert document["metadata"]["component"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert len(document["metadata"]["component"]["components"]) == 2, "a file a Python"
    depends = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert depends["pkg:pypi/ssm-stream@0.1.0"] == ["pkg:pypi/lib-one@1.2", *(f"compiled-in:{n}" for n in sbom.NATIVE)]
    assert depends["pkg:pypi/lib-one@1.2"] == ["pkg:pypi/two@2"]


def test_checksums_are_those_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "ö 1.txt").write_text("1")
    (tmp_path / "b").write_text("2")
    (tmp_path / "SHA256SUMS").write_text(bundle.checksums(tmp_path))
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == 2
    (tmp_path / "b").write_text("3")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_the_bundle_is_for_the_glibc_of_its_wheels() -> None:
    named = bundle.platforms()[1::2]
    assert named[0].startswith(f"manylinux_{bundle.NEEDED_GLIBC.replace('.', '_')}_")
    assert f"manylinux_{wheels.GLIBC.replace('.', '_')}_" in "".join(named)
    assert any(name.startswith("manylinux2014_") for name in named)
    script = bundle.INSTALL.replace("VERSION", "0.1.0")
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_templates_of_issues_are_valid() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    for file in folder.glob("*.yml"):
        content = yaml.safe_load(file.read_text())
        if file.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= content.keys()
        fields = [each for each in content["body"] if each["type"] != "markdown"]
        assert len({each["id"] for each in fields}) == len(fields)
        assert all(each["attributes"]["label"] for each in fields)


# Campaigns.


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[campaign.Figures]:
    """A campaign of three steps; the list gets what each step was given."""
    given: list[campaign.Figures] = []

    def step(so_far: campaign.Figures) -> campaign.Figures:
        given.append(dict(so_far))
        return {"kills": 400, "lost": 0, "slowest": [3.0, 9.0, 2.0][len(given) - 1]}

    monkeypatch.setattr(campaign, "LOG", tmp_path / "log.json")
    monkeypatch.setattr(campaign, "PAGE", tmp_path / "README.md")
    monkeypatch.setattr(campaign, "commit", lambda: "abc")
    monkeypatch.setattr(campaign, "machine", lambda: "2 cores, 24 GB")
    monkeypatch.setitem(campaign.KINDS, "kills", campaign.Kind(step, "kills", 1_000, ("slowest",)))
    return given


def test_a_campaign_goes_on_and_adds_up(counted: list[campaign.Figures]) -> None:
    assert campaign.run("kills", minutes=0.0) == 0
    assert campaign.run("kills", minutes=None) == 0
    assert [each.get("kills", 0) for each in counted] == [0, 400, 800]
    assert campaign.run("kills", minutes=None) == 0, "it is whole"
    (entry,) = campaign.read_log()
    assert entry["figures"] == {"steps": 3, "failures": 0, "kills": 1_200, "lost": 0, "slowest": 9}
    assert "| kills | abc |" in campaign.PAGE.read_text()
    assert "| 2 cores, 24 GB | 1,200 kills | 1,000 | failures 0; lost 0; slowest 9 |" in campaign.PAGE.read_text()


def test_each_commit_has_a_campaign_of_its_own(
    counted: list[campaign.Figures], monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.run("kills", minutes=0.0)
    monkeypatch.setattr(campaign, "commit", lambda: "def")
    campaign.run("kills", minutes=0.0)
    assert [each["figures"]["kills"] for each in campaign.read_log()] == [400, 400]


def test_a_failed_step_ends_the_campaign_and_is_counted(
    counted: list[campaign.Figures], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: campaign.Figures) -> campaign.Figures:
        raise campaign.StepError("lost 1", {"kills": 20, "lost": 1})

    monkeypatch.setitem(campaign.KINDS, "kills", campaign.Kind(fail, "kills", 1_000))
    assert campaign.run("kills", minutes=None) == 1
    (entry,) = campaign.read_log()
    assert entry["figures"] == {"steps": 1, "failures": 1, "kills": 20, "lost": 1}


def test_a_step_of_torture_counts_kills_and_faults(
    counted: list[campaign.Figures], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bars for kills are of a whole campaign; a fault, or a return that takes too long, fails the step."""
    found = {**dict.fromkeys(campaign.NO_FAULTS, 0), "worker kills": 50, "broker kills": 15, campaign.RETURN: 2.5}

    def output(command: list[str]) -> str:
        assert command[-3:] == ["--seed", "0", "--json"]
        raise campaign.StepError("missed", dict(found))

    monkeypatch.setattr(campaign, "output", output)
    assert campaign.torture({}) == found
    for fault in ("lost", campaign.RETURN):
        before, found[fault] = found[fault], 31
        with pytest.raises(campaign.StepError, match="seed 0"):
            campaign.torture({})
        found[fault] = before
    monkeypatch.setitem(campaign.KINDS, "torture", campaign.KINDS["torture"]._replace(step=lambda _: found, target=30))
    assert campaign.run("torture", minutes=None) == 0
    campaign.report("torture")
    checks = {each["name"]: (each["value"], each["ok"]) for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["worker kills"] == (100, False)
    assert checks["lost"] == (0, True)
    assert checks[campaign.RETURN] == (2.5, True)


def test_false_alarms_are_judged_where_enough_are_to_be_expected() -> None:
    figures = {"events a stream": 1e6, "drift, t3, 1 in 1,000": 800, "drift, t3, 1 in 100,000": 40}
    assert campaign.over_budget({"figures": figures}) == 0.8
    assert campaign.over_budget({"figures": {"kills": 3}}) is None


def test_steps_of_scripts_take_what_the_scripts_take() -> None:
    """Each option of a step is one of its script."""
    text = Path(campaign.__file__).read_text(encoding="utf-8")
    for script, options in re.findall(r'python\("([\w/.]+)", (.+?)\)\)?\n', text):
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r'"(--[\w-]+)"', options):
            assert f'"{option}"' in source, f"{script}: {option}"


def test_the_page_of_campaigns_is_written_from_its_log() -> None:
    page = ROOT / "docs" / "campaigns" / "README.md"
    assert page.read_text(encoding="utf-8") == campaign.page(campaign.read_log())
