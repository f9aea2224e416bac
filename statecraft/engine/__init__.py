"""The engine: advances one run by one step at a time. `step` is the place to start reading."""
