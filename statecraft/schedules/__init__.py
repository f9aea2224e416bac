"""Runs that start by the calendar."""
