"""Tools on files that the operator has named: validate, init, backtest, tune. They write nothing but to a temporary
folder, which is removed."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ssm_stream.config import ConfigError, load_config
from ssm_stream.mcp.allowed_files import AllowedFiles, NotAllowedError
from ssm_stream.mcp.commands import CommandRunner, Finished
from ssm_stream.mcp.redaction import Placeholders, map_texts
from ssm_stream.mcp.results import CommandResult, FileList, Validation
from ssm_stream.mcp.tools.common import Limit, Offset, page_of
from ssm_stream.mcp.tools.process import hash_of, warnings_of

MAX_ROWS = 1_000_000
RUNS = "runs"
"""Folder of what tune has run, in the temporary one."""
Rows = Annotated[int, Field(ge=100, le=MAX_ROWS, description="Read only so many rows, the first")]
ConfigName = Annotated[
    str | None,
    Field(max_length=1000, description="Configuration file, as list_files names it; null: that of this server"),
]
Recording = Annotated[
    str,
    Field(
        max_length=1000, description="Recording: CSV, Excel, JSON lines, Parquet, or a folder, as list_files names it"
    ),
]
Call = Context[None, None]


class FileTools:
    """The tools on files. own: the configuration file of this server"""

    def __init__(self, own: Path, allowed: AllowedFiles, runner: CommandRunner) -> None:
        self._given, self._own, self._allowed, self._runner = str(own), own.resolve(), allowed, runner

    def list_files(self, limit: Limit = 100, offset: Offset = 0) -> FileList:
        """List the files that validate, init, backtest and tune may read: the operator has named their folders."""
        shown, page = page_of(self._allowed.list(), offset, limit)
        return FileList(files=[{"name": name, "bytes": path.stat().st_size} for name, path in shown], **page)

    def validate(
        self,
        config: ConfigName = None,
        recording: Annotated[str | None, Field(description="Check also that its columns are there")] = None,
    ) -> Validation:
        """Check a configuration file: each error with its line and the cure, harmful combinations, missing columns of a
        recording, and what the change means for the state that exists."""
        file = self._config(config)
        restore = Placeholders(file).restore
        try:
            loaded = load_config(file)
        except ConfigError as error:
            return Validation(valid=False, errors=restore(str(error).splitlines()))
        errors = []
        if recording is not None:
            from ssm_stream.evaluate.recordings import Recording as Rows_
            from ssm_stream.evaluate.recordings import RecordingError, parse_options

            try:
                rows = Rows_(self._allowed(recording), None, parse_options([]).of_event(loaded.event))
                errors = rows.missing_paths(loaded)
            except RecordingError as error:
                errors = [str(error)]
        state = None
        if loaded.recovery.directory is not None and loaded.recovery.directory.exists():
            from ssm_stream.recovery.compatibility import check_state

            found = check_state(loaded)
            state = None if found is None else found.as_json()
        refused = state is not None and state["effect"] == "refused"
        return Validation(
            valid=not errors and not refused,
            errors=restore(errors),
            warnings=restore(warnings_of(loaded)),
            config_hash=hash_of(loaded),
            settings=restore(loaded.redacted()),
            state=restore(state),
        )

    async def init(
        self,
        recording: Recording,
        ctx: Call,
        target: Annotated[
            list[str] | None, Field(max_length=50, description="Columns to predict, or `all`; null: it is inferred")
        ] = None,
        entity: Annotated[str | None, Field(max_length=500, description="Column of the entity's name")] = None,
        timestamp: Annotated[str | None, Field(max_length=500, description="Column of the event time")] = None,
        alerts_per_week: Annotated[
            float | None, Field(ge=0.001, description="False alarms that are acceptable a week, of all entities")
        ] = None,
    ) -> CommandResult:
        """Draft a configuration from a sample of data, with the reason for each choice. Returns the text of the file in
        `file`; it is not written."""
        options = [f"--target={each}" for each in target or ()]
        options += [
            f"--{name}={value}"
            for name, value in (("entity", entity), ("timestamp", timestamp), ("alerts-per-week", alerts_per_week))
            if value is not None
        ]
        sample = self._allowed(recording)
        with tempfile.TemporaryDirectory(prefix="ssm-stream-") as folder:
            out = Path(folder) / "monitor.yaml"
            done = await self._run(ctx, ["init", str(sample), "--out", str(out), "--json", *options])
            text = out.read_text(encoding="utf-8") if out.exists() else None
        return self._result(["init", recording, *options], done, out, text)

    async def backtest(
        self,
        recording: Recording,
        ctx: Call,
        config: ConfigName = None,
        rows: Rows = 200_000,
        label_delay: Annotated[int, Field(ge=0, le=4095, description="Rows by which each label comes later")] = 0,
    ) -> CommandResult:
        """Run the production engine over a recording: errors against a naive prediction, coverage of the intervals, and
        the alerts it would raise. Takes seconds to minutes."""
        file, sample = self._config(config), self._allowed(recording)
        options = ["--limit", str(rows), *(["--label-delay", str(label_delay)] if label_delay else [])]
        done = await self._run(ctx, ["backtest", str(file), str(sample), "--json", *options])
        return self._result(["backtest", config or str(self._own.name), recording, *options], done)

    async def tune(
        self,
        recording: Recording,
        ctx: Call,
        config: ConfigName = None,
        rows: Rows = 20_000,
        only: Annotated[
            list[str] | None, Field(max_length=20, description="Try only these: lags, profile, heads, features, …")
        ] = None,
    ) -> CommandResult:
        """Search for better settings on the first 70 % of a recording and judge them on the rest. Returns the proposal
        as a diff in `file`; no file is changed. Takes minutes."""
        file, sample = self._config(config), self._allowed(recording)
        options = ["--limit", str(rows), *(f"--only={each}" for each in only or ())]
        with tempfile.TemporaryDirectory(prefix="ssm-stream-") as folder:
            diff = Path(folder) / "proposal.diff"
            written = ["--diff", str(diff), "--cache", f"{folder}/{RUNS}"]
            done = await self._run(ctx, ["tune", str(file), str(sample), "--json", *options, *written])
            text = diff.read_text(encoding="utf-8") if diff.exists() else None
        return self._result(["tune", config or str(self._own.name), recording, *options], done, diff, text)

    def _config(self, name: str | None) -> Path:
        if name is None:
            return self._own
        try:
            return self._allowed(name)  # first: a file that list_files names may have the name of the server's own
        except NotAllowedError:
            if name in (self._given, self._own.name):
                return self._own
            raise

    async def _run(self, ctx: Call, arguments: list[str]) -> Finished:
        async def on_progress(seconds: float, limit: float) -> None:
            await ctx.report_progress(seconds, limit, f"{seconds:.0f} s")

        return await self._runner.run(arguments, on_progress)

    def _result(
        self, words: list[str], done: Finished, out: Path | None = None, file: str | None = None
    ) -> CommandResult:
        """Return the answer. out: the file that the command wrote, which is gone; file: its text"""

        def restore(content: Any) -> Any:
            found = Placeholders(self._own).restore(content)
            return found if out is None else map_texts(found, lambda text: _kept_as(text, out))

        return CommandResult(
            command=shlex.join(["ssm-stream", *words]),
            exit_code=done.exit_code,
            seconds=done.seconds,
            result=restore(done.json()),
            messages=restore(done.messages),
            file=None if file is None else file[:100_000],
        )


def _kept_as(text: str, out: Path) -> str:
    """Return what a command printed of a file that is gone, as it holds for who saves the text of the answer."""
    text = text.replace(f"written to {out}", f"not written: save `file` as {out.name}")
    return text.replace(f"; stored in {out.parent / RUNS}", "").replace(str(out), out.name)
