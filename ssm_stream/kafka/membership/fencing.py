"""Ends the transactions of members that have left the group without ending them.

Until the broker's timeout, the open transaction of a member that was killed hides its results, and later ones of the
same partition, from consumers, and may hold back the committed offsets. Whoever takes its partitions over ends it at
once, by the transactional id that the commits of these partitions name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ssm_stream.config import Config
from ssm_stream.kafka.admin import describe_group
from ssm_stream.kafka.client import BrokerError, LastError, client_properties, open_producer
from ssm_stream.kafka.membership.commit import Commit

LOG = structlog.get_logger("ssm_stream.source")
TIMEOUT = 10.0
"""Seconds in which a broker has to answer."""


def present_members(config: Config) -> set[str] | None:
    """Return the ids of the members of the group; None if the broker does not report them."""
    source = config.source
    try:
        admin = AdminClient(client_properties(source, error_cb=LastError(source)))
        return {each.member_id for each in describe_group(admin, source.group_id, TIMEOUT).members}
    except Exception as error:  # noqa: BLE001  # of many types; the broker's own timeout ends the transactions then
        LOG.warning("members_unknown", group=source.group_id, error=str(error))
        return None


def end_transactions(config: Config, commits: Iterable[Commit], own: str, former: Collection[str] = ()) -> list[str]:
    """End the transactions of members that are not in the group any more; returns their transactional ids.

    Args:
        commits: of the partitions that are taken over
        own: transactional id of this member
        former: those that it has given up: a call that hung may have left one open
    """
    owners = {each.transactions: each.member for each in commits if each.transactions not in ("", own)}
    if not owners:
        return []
    present = present_members(config)
    if present is None:
        return []
    ended = []
    for transactions, member in owners.items():
        if member in present and transactions not in former:
            continue
        try:
            producer = open_producer(config, LastError(config.source), fixed={"transactional.id": transactions})
            producer.init_transactions(TIMEOUT)
        except (BrokerError, KafkaException) as error:
            LOG.warning("transaction_not_ended", transactions=transactions, error=str(error))
            continue
        ended.append(transactions)
    return ended
