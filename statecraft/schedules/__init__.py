"""Runs that start by the calendar: rules that name instants, and the firing of what is due."""
