"""Apache Kafka with listeners of its own for TLS and logins, and with permissions (ACLs)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from certificates import LOOPBACK, Authority
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from brokers.apache import ApacheKafka
from ssm_stream.kafka.client import LOGGER
from ssm_stream.ops.bytewax_metrics import free_port

USER = "ssm-stream"
LOGINS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
SECURITY = "org.apache.kafka.common.security"
WAIT = 20.0


class Right(NamedTuple):
    """An operation that a user may do on a resource (`topic`, `group`, `transactional_id`)."""

    operation: str
    resource: str
    name: str
    prefixed: bool = False

    def binding(self, user: str) -> AclBinding:
        return AclBinding(*self._pattern(), f"User:{user}", "*", self._operation, AclPermissionType.ALLOW)

    def filter(self, user: str) -> AclBindingFilter:
        return AclBindingFilter(*self._pattern(), f"User:{user}", "*", self._operation, AclPermissionType.ALLOW)

    def _pattern(self) -> tuple[Any, str, Any]:
        kind = ResourcePatternType.PREFIXED if self.prefixed else ResourcePatternType.LITERAL
        return ResourceType[self.resource.upper()], self.name, kind

    @property
    def _operation(self) -> Any:
        return AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.operation).upper()]


class SecureKafka(ApacheKafka):
    """A node with three listeners: one without protection for the tests themselves, whose user may do everything; one
    with TLS and a login (`login_servers`); one that requires a client certificate (`tls_servers`).

    A client certificate's common name is the user. Tokens are checked by Kafka's unsecured validator.
    """

    kind = "Apache Kafka with TLS, SASL and ACLs"

    def __init__(self, directory: Path, password: str) -> None:
        self.authority, self.password = Authority(directory / "ca"), password
        self._served = self.authority.issue("broker").both()
        self._login_port, self._tls_port = free_port(), free_port()
        self.login_servers, self.tls_servers = f"{LOOPBACK}:{self._login_port}", f"{LOOPBACK}:{self._tls_port}"
        super().__init__(directory)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "logger": LOGGER})
        self._set_passwords()

    def settings(self, controller: int) -> dict[str, object]:
        login, scram = "listener.name.login", f"{SECURITY}.scram.ScramLoginModule required;"
        plain = f'{SECURITY}.plain.PlainLoginModule required user_{USER}="{self.password}";'
        token = f'{SECURITY}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        validator = f"{SECURITY}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        own = super().settings(controller)
        ours = f"LOGIN://{self.login_servers},MUTUAL://{self.tls_servers}"
        return own | {
            "listeners": f"{own['listeners']},{ours}",
            "advertised.listeners": f"{own['advertised.listeners']},{ours}",
            "listener.security.protocol.map": f"{own['listener.security.protocol.map']},LOGIN:SASL_SSL,MUTUAL:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._served,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority.certificate,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            f"{login}.sasl.enabled.mechanisms": ",".join(LOGINS),
            f"{login}.plain.sasl.jaas.config": plain,
            f"{login}.scram-sha-256.sasl.jaas.config": scram,
            f"{login}.scram-sha-512.sasl.jaas.config": scram,
            f"{login}.oauthbearer.sasl.jaas.config": token,
            f"{login}.oauthbearer.sasl.server.callback.handler.class": validator,
        }

    def _set_passwords(self) -> None:
        wanted = [
            UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), self.password.encode())
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        ]
        for one in wanted:  # a request takes one of each user
            for answer in self.admin.alter_user_scram_credentials([one]).values():
                answer.result(WAIT)

    def grant(self, rights: Iterable[Right], user: str = USER) -> None:
        """Let the user do this."""
        given = list(rights)
        for answer in self.admin.create_acls([right.binding(user) for right in given]).values():
            answer.result(WAIT)
        self._wait(given, user, there=True)

    def take(self, rights: Iterable[Right], user: str = USER) -> None:
        """Take these rights away."""
        taken = list(rights)
        for answer in self.admin.delete_acls([right.filter(user) for right in taken]).values():
            assert answer.result(WAIT), "there was no such right"
        self._wait(taken, user, there=False)

    def _wait(self, rights: list[Right], user: str, *, there: bool) -> None:
        """Wait until the broker acts by it: it follows the controller, which has answered."""
        until = time.monotonic() + WAIT
        for right in rights:
            while bool(self.admin.describe_acls(right.filter(user)).result(WAIT)) != there:
                assert time.monotonic() < until, f"{right} is not in force"
                time.sleep(0.02)

    @contextmanager
    def without(self, right: Right):  # type: ignore[no-untyped-def]
        """Take a right away for a while."""
        self.take([right])
        try:
            yield
        finally:
            self.grant([right])
