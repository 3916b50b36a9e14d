"""What running workloads use: live for who watches, and a minute's resolution of the last 30 days.

    async for batch in metrics.follow(workload_id, last): ...
    points = await metrics.series(workload_id, since, until, step_seconds)

Measured is the instance that serves. Engines tell totals since its start; what is shown is made of two of them.
"""

from muelle.workloads.metrics.metrics import BadSpan, Metrics, TooManyPoints
from muelle.workloads.metrics.rates import Measured, Point, Rates

__all__ = ["BadSpan", "Measured", "Metrics", "Point", "Rates", "TooManyPoints"]
