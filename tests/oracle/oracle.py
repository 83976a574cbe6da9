"""Asks DuckDB about what was produced and what was written.

Reads one JSON request from standard input and prints the answer as JSON:

    {"directory": "…", "views": [VIEW, …], "sql": ["SELECT …", …]}  ->  [[ROW, …], …]

A VIEW is {"name": …} with one of
    "topic": {"bootstrap": …, "topic": …}                                           what a read_committed reader gets
    "s3": {"endpoint": …, "access_key": …, "secret_key": …, "bucket": …, "prefix": …}   the Parquet files there
    "path": "…"                                                                     the Parquet files there, on disk
Topics and buckets are copied to the directory first, once: a view that is there already is not fetched again.
"""

import concurrent.futures
import json
import os
import sys
import time

import duckdb


def main():
    request = json.load(sys.stdin)
    database = duckdb.connect(config={"threads": 2, "memory_limit": "2GB", "temp_directory": request["directory"]})
    database.execute("SET TimeZone = 'UTC'")
    for view in request["views"]:
        database.execute(f'CREATE VIEW "{view["name"]}" AS {view_query(view, request["directory"])}')
    json.dump([rows(database, sql) for sql in request["sql"]], sys.stdout)


def rows(database, sql):
    # DuckDB makes the JSON, so that no value goes through Python's idea of it.
    found = database.execute(f"SELECT to_json(answer)::VARCHAR FROM ({sql}) AS answer").fetchall()
    return [json.loads(row[0]) for row in found]


def view_query(view, directory):
    copy = os.path.join(directory, view["name"])
    if "path" in view:
        copy = view["path"]
    elif not os.path.exists(copy):
        partial = copy + ".partial"
        os.mkdir(partial)
        if "topic" in view:
            fetch_topic(view["topic"], partial)
        else:
            fetch_bucket(view["s3"], partial)
        os.rename(partial, copy)
    files = [os.path.join(at, name) for at, _, names in os.walk(copy) for name in names if name.endswith(".parquet")]
    if not files:
        sys.exit(f"there is no Parquet file for {view['name']}: {view}")
    files = json.dumps(sorted(files), ensure_ascii=False).replace("'", "''").replace('"', "'")
    options = "union_by_name = true, hive_partitioning = true, hive_types_autocast = false"
    columns = "*, TRY(decode(_key)) AS _key_text, TRY(decode(_value)) AS _text" if "topic" in view else "*"
    return f"SELECT {columns} FROM read_parquet({files}, {options})"


def fetch_topic(where, directory):
    import confluent_kafka
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            ("_partition", pyarrow.int32()),
            ("_offset", pyarrow.int64()),
            ("_timestamp", pyarrow.timestamp("ms", tz="UTC")),
            ("_key", pyarrow.binary()),
            ("_value", pyarrow.binary()),
        ]
    )
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": where["bootstrap"],
            "group.id": "oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": 65536,
            "fetch.max.bytes": 52428800,
            "message.max.bytes": 33554432,
        }
    )
    metadata = consumer.list_topics(where["topic"], timeout=15).topics[where["topic"]]
    if metadata.error is not None:
        sys.exit(f"topic {where['topic']}: {metadata.error}")
    beginning = confluent_kafka.OFFSET_BEGINNING
    waiting = set(metadata.partitions)
    consumer.assign([confluent_kafka.TopicPartition(where["topic"], number, beginning) for number in waiting])
    with pyarrow.parquet.ParquetWriter(os.path.join(directory, "messages.parquet"), schema, compression="lz4") as out:
        last_progress = time.monotonic()
        while waiting:
            batch = consumer.consume(20_000, timeout=0.2)
            if batch:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > 60:
                sys.exit(f"reading {where['topic']}: nothing came for a minute")
            columns = [[], [], [], [], []]
            for message in batch:
                error = message.error()
                if error is None:
                    values = (message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value())
                    for column, value in zip(columns, values):
                        column.append(value)
                elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                else:
                    sys.exit(f"reading {where['topic']}: {error}")
            if columns[0]:
                arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema)]
                out.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    consumer.close()


def fetch_bucket(where, directory):
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=where["endpoint"],
        aws_access_key_id=where["access_key"],
        aws_secret_access_key=where["secret_key"],
        region_name="us-east-1",
    )
    prefix = where["prefix"].strip("/") + "/"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=where["bucket"], Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", []) if item["Key"].endswith(".parquet")]

    def fetch(key):
        target = os.path.join(directory, key[len(prefix) :])
        os.makedirs(os.path.dirname(target), exist_ok=True)
        client.download_file(where["bucket"], key, target)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, keys))


main()
