"""The demonstration: an embedded broker, two bundled recordings, and a production dataflow for each."""
