"""Files that commands write: whole or not there, and errors that name the option."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.cli.terminal.output_file import OutputError, open_output, write_output

CONFIG = """\
source: {brokers: "localhost:9092", topic: events}
event: {entity: m, timestamp: t, features: [x], target: y}
"""


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    path.write_text("of before")
    path.chmod(0o640)
    link.symlink_to(path)
    with open_output("--out", link) as file:
        assert file is not None
        file.write(b"of now")
        assert path.read_text() == "of before"
    assert link.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("of now", 0o640)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.jsonl", "out.jsonl"]


def test_what_is_stopped_leaves_no_part_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.jsonl"

    def stopped() -> None:
        with open_output("--out", path) as file:
            assert file is not None
            file.write(b"a part")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == f"stopped: {path} (--out) was not written\n"


def test_errors_name_the_option_the_file_and_the_cause(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^--diff: cannot write /dev/full: No space left on device$"):
        write_output("--diff", Path("/dev/full"), "text")
    config, recording = tmp_path / "c.yaml", tmp_path / "r.csv"
    config.write_text(CONFIG)
    recording.write_text("t,m,x,y\n" + "".join(f"{1_790_000_000 + i},a,{i % 7},{i % 5}\n" for i in range(500)))
    done = CliRunner().invoke(app, ["backtest", str(config), str(recording), "--out", "/dev/full"])
    assert (done.exit_code, done.stderr) == (1, "error: --out: cannot write /dev/full: No space left on device\n")


def test_validate_is_not_ok_for_a_file_without_the_columns(tmp_path: Path) -> None:
    config, recording = tmp_path / "c.yaml", tmp_path / "r.csv"
    config.write_text(CONFIG)
    recording.write_text("t,m,x,z\n1790000000,a,1,2\n")
    done = CliRunner().invoke(app, ["validate", str(config), str(recording)])
    assert done.exit_code == 1
    assert done.stdout.startswith(f"{config}: valid, but not for r.csv (config hash ")
    recording.write_text("t,m,x,y\n1790000000,a,1,2\n")
    assert CliRunner().invoke(app, ["validate", str(config), str(recording)]).stdout.startswith(f"{config}: ok (")
