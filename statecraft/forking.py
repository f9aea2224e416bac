"""The half of a runtime that looks at a run at any step, compares runs, and starts a new one from the history of another."""
