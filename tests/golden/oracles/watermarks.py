"""A small reference for watermarks, written from their definition and from nothing else.

A partition's watermark is the latest event time it has shown, less the delay. The job's is the minimum over all
partitions of all sources with an event time that are not idle; a partition that has shown nothing yet holds it back.
With policy max a source counts as one partition. It never goes back, and moves only between epochs.
"""

import datetime

from .case import time_of


def watermarks(case):
    """The job's watermark after each epoch; None as long as there is none."""
    sources = [source for source in case.sources.values() if source.column]
    latest = {(source.name, partition): None for source in sources for partition in range(source.partitions)}
    found, job = [], None
    for epoch, idle in enumerate(case.idle, 1):
        for row in case.rows:
            source = case.sources[row.source]
            if row.epoch != epoch or not source.column:
                continue
            time = time_of(row.cells[source.column])
            at = (row.source, row.partition)
            if time is not None and (latest[at] is None or time > latest[at]):
                latest[at] = time
        candidates = []
        for source in sources:
            mine = [latest[source.name, p] for p in range(source.partitions) if (source.name, p) not in idle]
            shown = [time for time in mine if time is not None]
            if source.policy == "max":
                mine = [max(shown)] if shown else mine[:1]
            candidates += [time and time - source.delay for time in mine]
        if candidates and None not in candidates:
            job = max(job or datetime.datetime.min, min(candidates))
        found.append(job)
    return found
