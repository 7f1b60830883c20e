"""Messages in JSON, Avro and Protobuf, and the schema registry that has their schemas."""
