"""Verifies the audit of a flow, wherever it is."""

from __future__ import annotations

from ssm_stream.config import Config
from ssm_stream.ops.audit import Summary, verify_audit
from ssm_stream.recovery.store.audit import verify_stored
from ssm_stream.recovery.store.flow_store import open_blobs


def verify(config: Config) -> Summary:
    """Check the chain of each shard, in a group of each partition. config: with an audit

    Raises:
        AuditError: there is no audit.
        RecoveryError: the store refuses.
        OSError: a file cannot be read.
    """
    assert config.audit.directory is not None
    if config.state.store is None:
        return verify_audit(config.audit.directory)
    return verify_stored(open_blobs(config), str(config.audit.directory))
