"""What a test does outside the cluster: topics, buckets, and reading a job log.

Reads one JSON request a line from standard input and answers each with one JSON line, {"ok": …} or {"error": "…"}; ends with
its input. The first line says where the servers are: {"kafka": "host:port", "s3": {"endpoint", "access_key", "secret_key"}}.
"""

import concurrent.futures
import json
import sys

import boto3
import botocore.config
import botocore.exceptions
import confluent_kafka
import confluent_kafka.admin

TIMEOUT = 10


def main():
    where = json.loads(sys.stdin.readline())
    bench = Bench(where)
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            answer = {"ok": getattr(bench, do)(**request)}
        except Exception as error:
            answer = {"error": f"{do} {request}: {error}"}
        print(json.dumps(answer), flush=True)


class Bench:
    def __init__(self, where):
        # A server that is away is expected: one attempt each, with a bound.
        self.admin = confluent_kafka.admin.AdminClient(
            {"bootstrap.servers": where["kafka"], "reconnect.backoff.max.ms": 500, "log_level": 0}
        )
        config = botocore.config.Config(
            connect_timeout=2, read_timeout=TIMEOUT, retries={"total_max_attempts": 1}, max_pool_connections=16, proxies={}
        )
        self.s3 = boto3.client(
            "s3",
            endpoint_url=where["s3"]["endpoint"],
            aws_access_key_id=where["s3"]["access_key"],
            aws_secret_access_key=where["s3"]["secret_key"],
            region_name="us-east-1",
            config=config,
        )
        self.pool = concurrent.futures.ThreadPoolExecutor(16)

    def create_topic(self, topic, partitions):
        new = confluent_kafka.admin.NewTopic(topic, num_partitions=partitions, replication_factor=1)
        self.admin.create_topics([new], request_timeout=TIMEOUT)[topic].result()

    def delete_topic(self, topic):
        self.admin.delete_topics([topic], request_timeout=TIMEOUT)[topic].result()

    def ends(self, topic):
        """The next offset of each partition, by number."""
        metadata = self.admin.list_topics(timeout=TIMEOUT).topics.get(topic)
        if metadata is None:
            raise LookupError(f"there is no topic {topic}")
        latest = confluent_kafka.admin.OffsetSpec.latest()
        asked = {confluent_kafka.TopicPartition(topic, number): latest for number in metadata.partitions}
        answers = self.admin.list_offsets(asked, request_timeout=TIMEOUT)
        ends = {place.partition: future.result().offset for place, future in answers.items()}
        return [ends[number] for number in sorted(ends)]

    def create_bucket(self, bucket):
        self.s3.create_bucket(Bucket=bucket)

    def delete_bucket(self, bucket):
        """With all that is in it. A bucket that runners still write to takes a few rounds."""
        for _ in range(20):
            for page in self.pages(bucket, ""):
                keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
                if keys:
                    self.s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            try:
                self.s3.delete_bucket(Bucket=bucket)
                return
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "BucketNotEmpty":
                    raise
        raise RuntimeError(f"bucket {bucket} is being filled")

    def keys(self, bucket, prefix):
        return [item["Key"] for page in self.pages(bucket, prefix) for item in page.get("Contents", [])]

    def slots(self, bucket, prefix, after):
        """The slots of a job log behind the key `after`, in order: key, when the store got it (ms), entries."""
        found = [item for page in self.pages(bucket, prefix, after) for item in page.get("Contents", [])]

        def read(item):
            body = self.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            stored = round(item["LastModified"].timestamp() * 1000)
            return {"key": item["Key"], "stored": stored, "entries": json.loads(body)["entries"]}

        return list(self.pool.map(read, found))

    def pages(self, bucket, prefix, after=""):
        return self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=after)


main()
