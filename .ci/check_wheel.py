"""The wheel in an empty environment outside the checkout, without a compiler: core, backtest, demonstration."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

MONITOR = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, features: [load], target: temp}
"""


def main() -> None:
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"  # dist may have one for each Python
    wheels = (Path(__file__).parent.parent / "dist").glob(f"*-{tag}-*.whl")
    wheel = max(wheels, key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / "bin"
        subprocess.run([programs / "pip", "install", "--quiet", wheel], check=True)
        environment = {"PATH": str(programs), "HOME": name, "LANG": os.environ.get("LANG", "C.UTF-8")}
        rows = "".join(f"a,{i},{20 + 3 * math.sin(i):.3f},{i % 7}\n" for i in range(300))
        (folder / "recording.csv").write_text(f"machine,ts,temp,load\n{rows}")
        (folder / "monitor.yaml").write_text(MONITOR)
        for command in (
            ["python", "-c", "from ssm_stream.core import ISA, native; print(ISA, native.isas())"],
            ["ssm-stream", "backtest", "monitor.yaml", "recording.csv", "--json"],
            ["ssm-stream", "examples"],
            ["ssm-stream", "backtest", "examples/soft-sensor.yaml", "examples/plant.csv.gz", "--json"],
            ["ssm-stream", "backtest", "examples/service-metrics.yaml", "examples/services.csv.gz", "--json"],
            ["ssm-stream", "backtest", "examples/forecast-fleet.yaml", "examples/parking_birmingham.csv.gz", "--json"],
            ["ssm-stream", "demo", "--json"],
        ):
            subprocess.run([programs / command[0], *command[1:]], cwd=folder, env=environment, check=True)
    sys.stdout.write(f"{wheel.name}: works where there is no compiler and no checkout\n")


if __name__ == "__main__":
    main()
