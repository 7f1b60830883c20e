"""What identifies the topic that a group reads."""

from __future__ import annotations

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from ssm_stream.config import Source
from ssm_stream.kafka.client import LastError, client_properties


def topic_id(source: Source) -> str | None:
    """Return the id that a topic has in its cluster: another one, once it is created again. None: it has none."""
    try:
        admin = AdminClient(client_properties(source, error_cb=LastError(source)))
        answers = admin.describe_topics(TopicCollection([source.topic]), request_timeout=source.wait)
        return str(answers[source.topic].result(source.wait).topic_id)
    except Exception:  # noqa: BLE001  # of many types: older brokers have no ids
        return None
