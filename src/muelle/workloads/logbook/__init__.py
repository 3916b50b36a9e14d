"""What programs write, kept longer than they run: one timeline per workload across its releases, in plain files.

    book = LogBook(folder, clock)
    await book.append(workload, entries)
    page = await book.read(workload, after=cursor, limit=200, contains="error")
    async for item in book.follow(workload, page.upto): ...

A line's cursor is a whole number, one higher than that of the line before it, and never means another line. Bounded in
size: what is oldest is dropped, and whoever followed from before that is told how many lines they missed.
"""

from muelle.workloads.logbook.book import LogBook
from muelle.workloads.logbook.collector import Collector, Pace
from muelle.workloads.logbook.model import Entry, Kept, LogsUnwritable, Page, Position, Skipped, Stream

__all__ = [
    "Collector",
    "Entry",
    "Kept",
    "LogBook",
    "LogsUnwritable",
    "Pace",
    "Page",
    "Position",
    "Skipped",
    "Stream",
]
