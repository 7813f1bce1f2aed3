"""Single parts, in milliseconds: no worker, no engine, no socket."""
