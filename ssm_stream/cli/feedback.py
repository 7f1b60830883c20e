"""`ssm-stream feedback`: counts the operators' verdicts on alerts."""

from __future__ import annotations

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile
from ssm_stream.cli.terminal.console import new_table, output, print_json, print_table
from ssm_stream.config import ConfigError, load_config


def feedback(config: ConfigFile, as_json: AsJson = False) -> None:
    """Read the feedback topic from its beginning and print how many alerts of each rule were true.

    Example: ssm-stream feedback examples/soft-sensor.yaml
    """
    from ssm_stream.flow.feedback import count_feedback, feedback_topic
    from ssm_stream.kafka.client import BrokerError

    with report_errors(BrokerError):
        loaded = load_config(config)
        source = feedback_topic(loaded)
        if source is None:
            raise ConfigError(
                f"{config}: alerts.feedback: not set; name the topic: alerts: {{feedback: {{topic: NAME}}}}"
            )
        counted, refused = count_feedback(loaded, source)
    if as_json:
        print_json({"rules": counted.rows(), "refused": refused})
        return
    table = new_table(("rule", "true", "false", "precision"), text=("rule",))
    for row in counted.rows():
        share = "–" if row["precision"] is None else f"{row['precision']:.1%}"
        table.add_row(row["rule"], f"{row['true']:,}", f"{row['false']:,}", share)
    print_table(table)
    if refused:
        output().print(f"[dim]messages that are not valid feedback (dead letters give the reason): {refused:,}[/dim]")
