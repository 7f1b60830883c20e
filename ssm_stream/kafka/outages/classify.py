"""Which errors of a broker or client pass by themselves, and which a person must end: the one place that decides.

An error passes if it is gone once a broker is back, a leader is chosen, a coordinator has loaded, or a new client has
taken the place of one that has given up.
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

RETRIABLE = frozenset(
    {
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.FETCH_SESSION_ID_NOT_FOUND,
        KafkaError.INVALID_FETCH_SESSION_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.LISTENER_NOT_FOUND,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,  # Leader high watermark is not caught up
        KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.STALE_BROKER_EPOCH,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # a broker that does not know yet what the cluster has made
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,
        KafkaError._NODE_UPDATE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._UNKNOWN_PARTITION,  # without a leader, that is: the partition exists
        KafkaError._WAIT_CACHE,
        KafkaError._WAIT_COORD,
    }
)
"""A request that failed so may be sent again. librdkafka sets its own flag for requests of transactions only."""

FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
"""A newer producer has the transactional id, or the broker ended a transaction that was open for too long."""

OF_A_PERSON = FENCED | {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.POLICY_VIOLATION,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError._UNSUPPORTED_FEATURE,
}
"""A new client would meet them again."""

GIVEN_UP = frozenset(
    {
        KafkaError.DUPLICATE_SEQUENCE_NUMBER,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError._FATAL,
        KafkaError._INCONSISTENT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._PURGE_QUEUE,
    }
)
"""What the reports of single messages have where their client has given up, or their broker is away."""


def kafka_error(error: KafkaException) -> KafkaError:
    """Return the broker's or client's error inside the exception."""
    inner = error.args[0]
    assert isinstance(inner, KafkaError)
    return inner


def is_fenced(error: KafkaError) -> bool:
    """Return True if a newer producer has the transactional id, or the broker ended a transaction that was open for too
    long: the error is the same."""
    return error.code() in FENCED


def is_retriable(error: KafkaError) -> bool:
    """Return True if the same request of the same client may succeed later."""
    return error.code() in RETRIABLE or (error.retriable() and error.code() not in OF_A_PERSON)


def passes(error: KafkaError) -> bool:
    """Return True if a new client may succeed later, though this one may not: also where this one has given up, as
    after skipped sequence numbers, or has to abort its transaction."""
    if error.code() in OF_A_PERSON:
        return False
    return is_retriable(error) or error.fatal() or error.txn_requires_abort() or error.code() in GIVEN_UP
