"""`ssm-stream notify`: sends alerts to people and systems."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import structlog
import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import ConfigFile, with_option_groups
from ssm_stream.cli.run import LogFormat, LogOptions
from ssm_stream.config import ConfigError, load_config

LOG = structlog.get_logger("ssm_stream.notify")


@with_option_groups
def notify(
    config: ConfigFile,
    log: LogOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent from now on; send nothing, commit nothing.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: print what would have been sent since then, such as 7d, and end.", show_default=False
        ),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each target, and end.")] = False,
) -> None:
    """Send alerts to people and systems: Slack, e-mail, Alertmanager, webhooks, a hundred more (docs/notify.md).

    It reads the topic of alerts, for each target of the section notify by itself, and runs until it is stopped. What a
    target has is committed: after a restart it continues there, and an alert may come twice, with the same id.

    Exit code 0: stopped; 1: the broker does not answer, or a test message did not arrive; 2: the configuration is
    invalid.

    Examples: ssm-stream notify monitor.yaml --test

    ssm-stream notify monitor.yaml --dry-run --since 7d

    ssm-stream notify monitor.yaml
    """
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.notify.preview import print_history
    from ssm_stream.notify.service import NotifyService, run_until_signal
    from ssm_stream.ops.logging import set_up_logging

    json = None if log.log_format is LogFormat.AUTO else log.log_format is LogFormat.JSON
    set_up_logging(level=log.log_level.value, json=json)
    if since is not None and not dry_run:
        raise typer.BadParameter("--since is for --dry-run: alerts are sent from the positions of the targets on")
    if test and dry_run:
        raise typer.BadParameter("--test sends, --dry-run does not: give one of them")
    with report_errors(BrokerError, as_json=log.log_format is LogFormat.JSON):
        loaded = load_config(config)
        if loaded.notify is None:
            raise ConfigError(
                f"{config}: notify: missing; write where alerts go, such as\n"
                '  notify:\n    targets: [{apprise: "${SLACK_URL}"}]\n  docs/notify.md has recipes'
            )
        if since is not None:
            from ssm_stream.cli.dlq import parse_since

            print_history(loaded, str(config), parse_since(since) or 0, typer.echo)
            return
        service = NotifyService(loaded, str(config), typer.echo if dry_run else None)
        if test:
            failed = False
            for name, reason in service.send_tests():
                failed = failed or reason is not None
                typer.echo(f"{name}: {'sent' if reason is None else reason}")
            if failed:
                raise typer.Exit(FAILED)
            return
        LOG.info("started", topic=loaded.sinks.alerts, targets=[w.name for w in service.workers], dry_run=dry_run,
                 release=version("ssm-stream"))  # fmt: skip
        run_until_signal(service)
    LOG.info("stopped", reason="signal")
