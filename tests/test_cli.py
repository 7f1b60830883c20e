"""The command line as a person meets it: help with examples, exit codes, JSON on standard output only, the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Forked, ran

ROOT = Path(__file__).parent.parent
COMMANDS = [
    "demo",
    "examples",
    "validate",
    "run",
    "replay",
    "backtest",
    "pilot",
    "doctor",
    "feedback",
    "paper",
    "verify",
    "schema config",
]
COMMANDS += ["tune", "ablate", "notify"]
COMMANDS += [f"state {name}" for name in ("ls", "show", "export", "import", "reset", "prime", "diff")]
SMALLEST = """\
source:
  brokers: localhost:9092
  topic: events
event:
  entity: machine
  timestamp: ts
  features: [temp, load]
  target: vibration
"""


def command(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return ran(*arguments, timeout=timeout)


INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "ssm_stream.cli.doctor":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from ssm_stream.__main__ import main
main()
"""


def test_an_interrupt_while_modules_load_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, "doctor"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        pytest.param("cli.app", {"bytewax", "confluent_kafka", "polars", "torch"}, id="help"),
        pytest.param("flow.runtime", {"jinja2", "mcp", "polars", "torch"}, id="run"),
    ],
)
def test_a_start_waits_for_no_library_that_it_does_not_use(module: str, heavy: set[str]) -> None:
    code = f"import sys\nimport ssm_stream.{module}\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_command_logs_is_no_part_of_its_output() -> None:
    """A client that waits for a broker has a line for it in the log, which `--json` must not have."""
    before = "import structlog, sys; from ssm_stream.cli.app import app; from typer.testing import CliRunner; "
    run = "CliRunner().invoke(app, ['validate', '--help']); structlog.get_logger('kafka').info('waiting')"
    done = subprocess.run([sys.executable, "-c", before + run], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert "waiting" in done.stderr


@pytest.mark.parametrize("given", [None, "3"])
def test_a_command_has_one_thread_for_its_matrices_unless_more_are_given(given: str | None) -> None:
    """On a machine that others use, each step of an `init` waited for a second thread: 39 s in place of 20 s."""
    code = "import atexit, os; atexit.register(lambda: print(os.environ['OPENBLAS_NUM_THREADS']))\n"
    code += "import sys; sys.argv[1:] = ['--version']; from ssm_stream.__main__ import main; main()"
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    env |= {} if given is None else {"OPENBLAS_NUM_THREADS": given}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split()[-1] == (given or "1")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    from ssm_stream.config import load_config

    result = command(*name.split(), "--help")
    assert result.returncode == 0, result.stderr
    shown = " ".join(result.stdout.split())
    assert f"ssm-stream {name}" in shown
    assert not re.search(r"-\d+-\d+-(anomaly|drift)", shown), "the id of an alert that other runs do not raise"
    assert not re.search(r"state prime \S+ \S+ examples/", shown), "their files have rows of several entities"
    for file, workers in re.findall(r"ssm-stream run examples/(\S+) -w (\d+)", shown):
        assert load_config(ROOT / "configs" / file).state.shards >= int(workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_waits_for_a_broker(tmp_path: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        path = tmp_path / "monitor.yaml"
        path.write_text(SMALLEST.replace("localhost:9092", f"127.0.0.1:{mute.getsockname()[1]}"))
        process = Forked("run", str(path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        mute.settimeout(60)
        connection, _ = mute.accept()
        with connection:
            process.send_signal(number)
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert '"reason":"signal"' in said.replace(" ", "")


@pytest.mark.parametrize("name", ["run", "notify"])
def test_the_last_line_is_json_where_the_log_is(tmp_path: Path, name: str) -> None:
    """Log pipelines lose what is not."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    path = tmp_path / "monitor.yaml"
    source = SMALLEST.replace("localhost:9092", nobody).replace("source:\n", "source:\n  wait: 1s\n")
    targets = "\nnotify: {targets: [{webhook: 'http://localhost:1/'}]}\n"
    path.write_text(source + (targets if name == "notify" else ""))
    result = command(name, str(path), "--log-format", "json")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.returncode == 1, result.stderr
    assert (lines[-1]["event"], lines[-1]["level"], lines[-1]["exit_code"]) == ("failed", "error", 1)
    assert f"no broker at {nobody} answered" in lines[-1]["error"]
    assert lines[-1]["cure"].startswith("start the broker")
    absent = command(name, str(tmp_path / "none.yaml"), "--log-format", "json")
    (line,) = [json.loads(line) for line in absent.stderr.splitlines()]
    assert (absent.returncode, line["exit_code"], "cure" in line) == (2, 2, False)
    assert command(name, str(tmp_path / "none.yaml"), "--log-format", "console").stderr.startswith("error: ")


def test_validate_says_what_the_file_means(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(SMALLEST)
    result = command("validate", str(path))
    assert result.returncode == 0
    for part in ("events on localhost:9092", "vibration", "machine", "dead-letters"):
        assert part in result.stdout
    content = json.loads(command("validate", str(path), "--json").stdout)
    assert content["event"]["target"] == "vibration"


def test_validate_names_the_first_of_many_targets(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    names = ", ".join(f"t{i}" for i in range(30))
    path.write_text(SMALLEST.replace("target: vibration", f"target: [{names}]"))
    assert "predicts  t0, t1, t2, t3, t4, t5, t6, t7, … (30 in all) of each" in command("validate", str(path)).stdout


def test_validate_takes_a_recording_with_labels_as_rows(tmp_path: Path) -> None:
    path, recording = tmp_path / "monitor.yaml", tmp_path / "plant.csv"
    path.write_text(SMALLEST + "labels: {marker: result, target: result}\n")
    recording.write_text(
        "machine,ts,temp,load,result\npress-7,1700000000,61,5,\npress-7,1700000300,62,5,\npress-7,1700000000,,,24.9\n"
    )
    said = command("validate", str(path), str(recording))
    assert said.returncode == 0, said.stderr
    assert "1 entity in 1 partition" in said.stdout
    assert (
        "labels    messages with `result`; an event waits 1d for its label, and 256 of an entity do at most"
        in said.stdout
    )
    assert "pass by" not in said.stdout


def test_validate_says_that_features_will_be_picked(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(SMALLEST.replace("[temp, load]", "auto"))
    result = command("validate", str(path))
    assert result.returncode == 0
    assert "auto: selected from the first events at start" in result.stdout
    assert "config hash" not in result.stdout, "it is that of the features, which are not known yet"
    content = json.loads(command("validate", str(path), "--json").stdout)
    assert (content["event"]["features"], content["config_hash"]) == ("auto", None)


def test_validate_never_prints_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(SMALLEST.replace("  topic: events\n", "  topic: events\n  kafka: {sasl.password: hunter2}\n"))
    for more in ([], ["--json"]):
        result = command("validate", str(path), *more)
        assert result.returncode == 2
        assert f"{path}:4: source.kafka.sasl.password: a secret must not be written in the file" in result.stderr
        assert "hunter2" not in result.stdout + result.stderr


def test_a_wrong_file_is_exit_code_2_with_line_key_and_cure(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(SMALLEST.replace("topic:", "topik:"))
    result = command("validate", str(path))
    assert result.returncode == 2
    assert result.stdout == ""
    assert f"{path}:3: source.topik" in result.stderr
    assert "did you mean `topic`?" in result.stderr


def test_schema_is_json_schema_of_the_file() -> None:
    schema = json.loads(command("schema", "config").stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"source", "event"} <= set(schema["properties"])


@pytest.mark.parametrize(("shards", "words"), [(1, "1 shard: one worker does"), (8, "8 shards: up to 8 workers share")])
def test_validate_says_how_many_workers_can_share_the_work(tmp_path: Path, shards: int, words: str) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(f"{SMALLEST}state: {{shards: {shards}}}\n")
    assert words in command("validate", str(path)).stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-w", "3"], "-w 3: only 2 workers can share the work, as state.shards is 2"),
        (["-w", "2", "-i", "0", "-a", "a:1;b:2"], "2 processes with -w 2: only 2 workers can share the work"),
    ],
)
def test_more_workers_than_shards_are_refused_before_the_start(tmp_path: Path, options: list[str], words: str) -> None:
    """They would stand idle. At once: no broker is asked, which here would take 30 s."""
    path = tmp_path / "monitor.yaml"
    path.write_text(SMALLEST.replace("localhost:9092", "127.0.0.1:9") + "state: {shards: 2}\n")
    result = command("run", str(path), *options, timeout=20)
    assert result.returncode == 2
    assert words in result.stderr
    assert "set state.shards to" in result.stderr
    assert "new recovery.directory" in result.stderr
    assert not (tmp_path / "ssm-stream-state").exists()


def test_demo_ends_by_itself_with_marks_a_picture_and_a_sentence() -> None:
    """Plain lines where there is no terminal, the last screen at the end, exit code 0, well under a minute."""
    began = time.monotonic()
    result = command("demo", "--rate", "12000", timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert time.monotonic() - began < 60
    assert "\x1b" not in result.stdout
    live, _, last = result.stdout.partition("37,008 events of 16 entities in")
    for event in (
        "PUMP-3: relation changed",
        "PUMP-7: new machine",
        "PUMP-5: sensor drifts",
        "checkout/errors: errors",
    ):
        assert f"{event}\n" in live
    assert re.search(r"✓ right \(relation changed\): 03-1\d \d\d:\d\d (?:critical: )?PUMP-3: power", live)
    for pump in ("PUMP-3", "PUMP-5", "PUMP-7"):
        assert re.search(rf"{pump} +ssm-stream [ ▁▂▃▄▅▆▇█]+ 0\.\d+\n +frozen +[ ▁▂▃▄▅▆▇█]+ \d\.\d+\n", last)
    alarms = re.search(r"(\d+) of 5 events found, (\d+) of (\d+) alarms right", last)
    assert alarms
    assert int(alarms[1]) >= 4
    assert len(re.findall(r"^  [✓✗] (?:right|wrong) ", last, re.M)) == int(alarms[3])
    assert re.search(r"Without retraining, the error after the changes is 0\.\d+ \(0\.\d+ before\)", last)
    screen = " ".join(last[last.index("Error of power") : last.index("Next: ")].split())
    for page in ("README.md", "README.ja.md", "docs/quickstart.md", "docs/quickstart.ja.md"):
        assert screen in " ".join((ROOT / page).read_text(encoding="utf-8").split()), (
            f"{page} shows another last screen"
        )


def test_demo_figures_are_those_of_a_backtest() -> None:
    """Through Kafka or from the file: the same engine, the same errors and alarms, every row accounted for."""
    from ssm_stream.config import load_config
    from ssm_stream.evaluate.backtest import backtest
    from ssm_stream.evaluate.examples import PLANT, SERVICES, example_file
    from ssm_stream.evaluate.recordings import Recording

    shown = json.loads(command("demo", "--rate", "20000", "--json", timeout=120).stdout)
    assert 0 < shown["first_prediction_s"] < shown["seconds"]
    assert shown["dead_letters"] == 0
    for name, example in (("plant", PLANT), ("services", SERVICES)):
        stream = shown["streams"][name]
        expected = backtest(load_config(example_file(example.config)), Recording(example_file(example.recording)))
        assert stream["events"] == expected["events"]
        for key in ("mae", "rmse", "mae_persistence", "coverage", "interval_width"):
            assert stream[key] == pytest.approx(expected[key], rel=1e-12), key
        started = sum(alarm["stream"] == name for alarm in shown["alarms"])
        assert (stream["anomalies"], stream["drifts"]) == (expected["anomalies"], expected["drifts"])
        assert started == expected["anomalies"] + expected["drifts"]
    frozen = shown["frozen"]
    assert [change["entity"] for change in frozen["changes"]] == ["PUMP-3", "PUMP-7", "PUMP-5"]
    for change in frozen["changes"]:
        after = change["after"]
        assert after["other"] > 3 * after["ours"], change["kind"]
        if before := change["before"]["ours"]:
            assert after["ours"] < 1.25 * before
            assert change["before"]["other"] < 1.25 * before, "before its change the frozen model is as good"
