"""Operating figures: what a fleet and its runs are doing at one moment, for people and for exporters."""

from statecraft.stats.figures import Backlog, BreakerStands, BudgetUse, Pace, Place, QueueDepth, Stats, WorkerBeat
from statecraft.stats.heat import Crowd, Flow, Heat
from statecraft.stats.metrics import Metric

__all__ = [
    "Backlog",
    "BreakerStands",
    "BudgetUse",
    "Crowd",
    "Flow",
    "Heat",
    "Metric",
    "Pace",
    "Place",
    "QueueDepth",
    "Stats",
    "WorkerBeat",
]
