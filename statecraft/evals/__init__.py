"""Suites of cases: a machine run many times, each run graded, and the grades compared with a baseline."""
