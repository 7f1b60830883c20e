"""Messages that are no rows yet → rows: what `event.layout` is for.

A message is usually a row: all columns of one entity at one time. Of a reading, a message has one value of one signal.
Two steps make rows:

    message → MessageReader (stateless, in the source's thread) → shard → RowBuilder (state of the shard) → engine

`MessageReader` reads messages into `Events` whose features are what the builder needs. `RowBuilder` returns `Events` as
the configuration's columns have them, with the message that caused each.
"""
