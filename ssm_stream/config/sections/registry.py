"""The section `schema_registry`, and the formats of messages that need it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainSerializer

from ssm_stream.config.sections.base import KafkaProperties, Section

OF_REGISTRY = ("avro", "protobuf", "auto")
"""Values of `event.format` for which a message names its schema."""


class Registry(Section):
    """Confluent's schema registry, or one with its REST interface: the schemas of the events in Avro or Protobuf are
    read there, and those of predictions and alerts are registered."""

    url: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]
    """Where it is, `http://registry:8081`; a login goes into `properties`."""
    properties: Annotated[KafkaProperties, Field(repr=False), PlainSerializer(lambda given: sorted(given))] = {}
    """Properties of confluent-kafka's registry client, such as `basic.auth.user.info` or `ssl.ca.location`. Secrets
    only as `${NAME}`, from the environment, or `${file:/path}`."""
    register_schemas: bool = True
    """Register the schemas of predictions and alerts at start. false: they must be there."""
