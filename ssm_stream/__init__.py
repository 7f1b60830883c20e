"""ssm-stream: watch production with an in-context state-space model per entity."""
