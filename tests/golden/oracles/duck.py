"""DuckDB as an oracle: batch SQL over the rows that were not late, and the watermark they met.

A source is a table of its columns and _source, _partition, _offset, _timestamp, _epoch, _event_time and _watermark (the
job's when the row's epoch began). A query may return _closes, the watermark at which a row of its result is final, and
_epoch, the first epoch in which it can be known; they say when the row is emitted.
"""

import duckdb

from .case import cell_of, time_of

TYPES = {"STRING": "VARCHAR"}

# last_end: the end of the last window that a time is in. windowed: the windows of a source's rows that were open when the
# row came. sessions: the sessions of a source's rows by their column k, as if all rows had come at once.
MACROS = """
CREATE MACRO last_start(time, slide, start) AS time_bucket(slide, time, TIMESTAMP '1970-01-01' + start);
CREATE MACRO last_end(time, size, slide, start) AS last_start(time, slide, start) + size;
CREATE MACRO windowed(source, size, slide, start) AS TABLE
SELECT * EXCLUDE (last, step) FROM (
  SELECT *, last - step * slide AS window_start, last - step * slide + size AS window_end
  FROM (
    SELECT *, last_start(_event_time, slide, start) AS last FROM query_table(source) WHERE _event_time IS NOT NULL
  ), range(100) AS steps(step)
)
WHERE window_end > _event_time AND (_watermark IS NULL OR window_end > _watermark);
CREATE MACRO sessions(source, gap) AS TABLE
SELECT *, min(_event_time) OVER whole AS window_start, max(_event_time) OVER whole + gap AS window_end
FROM (
  SELECT *, count(*) FILTER (WHERE before IS NULL OR before + gap < _event_time)
    OVER (PARTITION BY k ORDER BY _event_time, _partition, _offset) AS session
  FROM (
    SELECT *, lag(_event_time) OVER (PARTITION BY k ORDER BY _event_time, _partition, _offset) AS before
    FROM query_table(source) WHERE _event_time IS NOT NULL
  )
)
WINDOW whole AS (PARTITION BY k, session);
"""


class Duck:
    def __init__(self, case, watermarks, epochs=None):
        """With the rows of some epochs, or of all."""
        self.case, self.watermarks = case, watermarks
        self.epochs = epochs or range(1, case.epochs + 1)
        self.database = duckdb.connect(config={"threads": 1})
        self.database.execute(MACROS)
        for source in case.sources.values():
            self.load_source(source)
        self.late = self.find_late()
        for name, (schema, rows) in case.tables.items():
            self.load(name, schema, [list(cells.values()) for cells in rows])

    def load(self, name, columns, rows):
        ddl = ", ".join(f'"{column}" {TYPES.get(kind, kind)}' for column, kind in columns.items())
        self.database.execute(f'CREATE TABLE "{name}" ({ddl})')
        row_marks = "(" + ", ".join("?" for _ in columns) + ")"
        for at in range(0, len(rows), 500):
            some = rows[at : at + 500]
            cells = [value(cell, kind) for row in some for cell, kind in zip(row, columns.values())]
            self.database.execute(f'INSERT INTO "{name}" VALUES {", ".join([row_marks] * len(some))}', cells)

    def load_source(self, source):
        columns = {
            **source.schema,
            "_source": "STRING",
            "_partition": "INT",
            "_offset": "BIGINT",
            "_epoch": "INT",
            "_event_time": "TIMESTAMP",
            "_watermark": "TIMESTAMP",
        }
        rows = []
        for row in self.case.rows:
            if row.source != source.name or row.epoch not in self.epochs:
                continue
            before = self.watermarks[row.epoch - 2] if row.epoch > 1 else None
            cells = [row.cells.get(column) for column in source.schema]
            cells += [source.name, row.partition, row.offset, row.epoch, row.cells.get(source.column)]
            rows.append(cells + [before and before.isoformat(" ")])
        self.load(source.name, columns, rows)

    def find_late(self):
        """Takes the late rows out of the sources, and returns them."""
        late = []
        for name, condition in self.case.oracle.get("late", {}).items():
            columns = "_source, _epoch, _partition, _offset"
            late += self.database.execute(f"SELECT {columns} FROM {name} WHERE {condition}").fetchall()
            self.database.execute(f"DELETE FROM {name} WHERE {condition}")
        return sorted(late)

    def answer(self, output):
        """The columns of an output, and its rows as (epoch or None if never emitted, cells)."""
        views = [view["name"] for view in self.case.views]
        # DuckDB's text may need views that Millrace's does not.
        views += [name for name in self.case.oracle["duckdb"] or {} if name not in views and name != output["name"]]
        for name in views:
            self.database.execute(f'CREATE VIEW "{name}" AS {self.case.query("duckdb", name)}')
        result = self.database.execute(self.case.query("duckdb", output["name"]))
        columns = [column[0] for column in result.description]
        rows = []
        for row in result.fetchall():
            values = dict(zip(columns, row))
            closes, epoch = values.pop("_closes", None), values.pop("_epoch", 1)
            emitted = self.first_epoch(epoch, closes)
            rows.append((emitted, [cell_of(value) for value in values.values()]))
        return [column for column in columns if column not in ("_closes", "_epoch")], rows

    def first_epoch(self, known, closes):
        for epoch in range(known, self.case.epochs + 1):
            after = self.watermarks[epoch - 1]
            if closes is None or (after is not None and after >= closes):
                return epoch
        return None


def value(cell, kind):
    return time_of(cell) if kind == "TIMESTAMP" else cell
