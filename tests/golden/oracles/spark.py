"""Spark Structured Streaming 4.0 as an oracle.

An epoch is one file a source. It ends when Spark has nothing more to do: that is after the batch without data which
follows if the watermark moved. So windows close in the epoch that moved it, and the next epoch's rows meet that watermark.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import py4j.java_gateway
import pyspark
from pyspark.sql import SparkSession

from .case import cell_of, time_of

# A row of this time in every source closes whatever is open; nothing of the cases is near it.
FLUSH = "2100-01-01 00:00:00"
MANAGER = "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
INFERRED_FILTERS = "org.apache.spark.sql.catalyst.optimizer.InferFiltersFromConstraints"


class Spark:
    def __init__(self):
        for kind in (py4j.java_gateway.JVMView, py4j.java_gateway.JavaPackage):
            remember_attributes(kind)
        os.environ["TZ"] = "UTC"
        time.tzset()
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="golden-"))
        here = pathlib.Path(__file__).parent
        jars = pathlib.Path(pyspark.__file__).parent / "jars" / "*"
        # Hadoop's thousand defaults go compressed with each task; none of them is needed.
        for name in ("core", "hdfs", "mapred", "yarn"):
            (self.scratch / f"{name}-default.xml").write_text("<configuration/>")
        subprocess.run(["javac", "-cp", jars, "-d", self.scratch, here / "PlainFiles.java"], check=True)
        settings = {
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.session.timeZone": "UTC",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.memory": "1g",
            # For a few rows, compiling costs more than it saves.
            "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            "spark.sql.streaming.stateStore.maintenanceInterval": "1h",
            "spark.driver.extraClassPath": str(self.scratch),
            "spark.hadoop.fs.plain.impl": "PlainFiles",
            "spark.sql.streaming.checkpointFileManagerClass": MANAGER,
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.sql.streaming.noDataProgressEventInterval": "3600000",
            # A join's keys would be filtered for NULL below the watermark, and rows with a NULL key would not move it.
            "spark.sql.optimizer.excludedRules": INFERRED_FILTERS,
            # The time to put an epoch's files in their places: see Query.
            "spark.sql.streaming.pollingDelay": "500",
            "spark.log.level": "ERROR",
            "spark.sql.warehouse.dir": str(self.scratch / "warehouse"),
            "spark.sql.streaming.forceDeleteTempCheckpointLocation": "true",
            "spark.sql.ui.retainedExecutions": "5",
            "spark.sql.streaming.stateStore.stateSchemaCheck": "true",
        }
        builder = SparkSession.builder.master("local[1]").appName("golden")
        for key, value in settings.items():
            builder = builder.config(key, value)
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")

    def close(self):
        self.session.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def run(self, case, output):
        """What one output emitted: columns, (epoch, cells) in order, unemitted rows, watermarks and dropped counts."""
        directory = self.scratch / case.name.replace("/", "-")
        for source in case.sources.values():
            self.view_of(source, directory)
        for name, (schema, rows) in case.tables.items():
            self.table(name, schema, rows)
        for view in case.views:
            self.frame(case, view["name"]).createOrReplaceTempView(view["name"])
        query = Query(self.frame(case, output["name"]), output["outputMode"], directory)
        try:
            return query.columns, *self.drive(case, output, query)
        finally:
            query.stop()
            shutil.rmtree(directory)

    def drive(self, case, output, query):
        emitted, watermarks, dropped, stateful = [], [], 0, False
        for epoch in range(1, case.epochs + 1):
            messages = {source: [] for source in case.sources}
            for row in case.rows:
                if row.epoch == epoch:
                    messages[row.source].append(self.message(case.sources[row.source], row))
            rows, progress = query.epoch(messages)
            emitted += [(epoch, row) for row in rows]
            dropped += sum(s["numRowsDroppedByWatermark"] for p in progress for s in p["stateOperators"])
            stateful |= any(p["stateOperators"] for p in progress)
            marks = [p["eventTime"]["watermark"] for p in progress if "watermark" in p.get("eventTime", {})]
            watermarks.append(marks[-1] if marks else None)
        unemitted = []
        timed = [source for source in case.sources.values() if source.column]
        if output["outputMode"] == "append" and stateful and timed:
            flush = {source.name: [{source.column: FLUSH}] for source in timed}
            rows, _ = query.epoch(flush)
            unemitted = [row for row in rows if not any(of_flush(cell) for cell in row)]
        # Without state no batch without data follows, which would show the watermark that an epoch ended with.
        return emitted, unemitted, watermarks if stateful else [], dropped

    def frame(self, case, name):
        frame = self.session.sql(case.query("spark", name))
        # Spark has these only as methods of a DataFrame: {method: columns}.
        for method, columns in (case.oracle["spark"] or {}).get("methods", {}).get(name, {}).items():
            frame = getattr(frame, method)(columns)
        return frame

    def view_of(self, source, directory):
        (directory / source.name).mkdir(parents=True)
        ddl = ", ".join(f"`{name}` {kind}" for name, kind in source.schema.items())
        ddl += ", _partition INT, _offset BIGINT"
        frame = self.session.readStream.schema(ddl).json(f"plain:{directory / source.name}")
        if source.column:
            frame = frame.withWatermark(source.column, f"{int(source.delay.total_seconds())} seconds")
        frame.createOrReplaceTempView(source.name)

    def table(self, name, schema, rows):
        ddl = ", ".join(f"`{column}` {kind}" for column, kind in schema.items())
        texts = [json.dumps(typed(cells, schema)) for cells in rows]
        path = self.scratch / f"table-{name}.json"
        path.write_text("\n".join(texts))
        self.session.read.schema(ddl).json(str(path)).createOrReplaceTempView(name)

    def message(self, source, row):
        return {**typed(row.cells, source.schema), "_partition": row.partition, "_offset": row.offset}


class Query:
    """A streaming query that runs, epoch by epoch.

    The files of an epoch come right after the query found nothing to do, while it sleeps: so that it sees them all at once.
    Starting it anew for each epoch would be surer, but then Spark forgets the watermark of each source, and knows
    only the smallest of them.
    """

    def __init__(self, frame, mode, directory):
        self.session, self.columns, self.mode, self.directory = frame.sparkSession, frame.columns, mode, directory
        self.rows, self.known, self.number = 0, 0, 0
        writer = frame.writeStream.outputMode(mode).format("memory").queryName("emitted")
        self.query = writer.option("checkpointLocation", f"plain:{directory / 'checkpoint'}").start()
        self.query.processAllAvailable()

    def epoch(self, messages):
        """Gives the query the messages of each source; returns the rows it emitted, and its progress."""
        self.number += 1
        moves = []
        for source, rows in messages.items():
            if rows:
                fresh = self.directory / f"{source}-{self.number}"
                fresh.write_text("\n".join(json.dumps(row) for row in rows))
                moves.append((fresh, self.directory / source / f"{self.number:05}.json"))
        if not moves:
            return [], []
        self.query.processAllAvailable()
        for fresh, place in moves:
            fresh.rename(place)
        self.query.processAllAvailable()
        progress = [json.loads(progress.json) for progress in self.query.recentProgress]
        fresh, self.known = progress[self.known :], len(progress)
        with_rows = [each["batchId"] for each in fresh if each["numInputRows"] > 0]
        assert len(set(with_rows)) == 1, f"epoch {self.number} was read in batches {with_rows}"
        rows = self.session.table("emitted").collect()
        first, self.rows = 0 if self.mode == "complete" else self.rows, len(rows)
        return [[cell_of(value) for value in row] for row in rows[first:]], fresh

    def stop(self):
        self.query.stop()


def remember_attributes(kind):
    """Finding a class by its name asks the JVM about each part of it, and the JVM all of its jars: half of all the time."""
    find = kind.__getattr__

    def found(self, name):
        value = find(self, name)
        self.__dict__[name] = value
        return value

    kind.__getattr__ = found


def of_flush(cell):
    return cell is not None and cell.startswith(("2100-", "2099-"))


def typed(cells, schema):
    """A row as a JSON object: numbers and booleans bare, times in full."""
    values = {}
    for name, cell in cells.items():
        kind = schema[name]
        if cell is None:
            values[name] = None
        elif kind == "TIMESTAMP":
            values[name] = time_of(cell).isoformat() + "Z"
        elif kind == "STRING" or kind == "DATE":
            values[name] = cell
        elif kind == "BOOLEAN":
            values[name] = cell == "true"
        else:
            values[name] = json.loads(cell)
    return values
