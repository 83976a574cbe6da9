"""Produces orders: {"kafka", "topic", "partitions", "rate", "count"} as its one argument.

Order i has order_id i; it goes to partition i modulo `partitions`. `rate` orders a second (0: as fast as it goes), `count` at
most; ends early when standard input does. Then, once Kafka has acknowledged every one, prints {"produced": n}: the orders 0 to
n - 1 are in the topic, each once. Kafka may be away for minutes meanwhile.
"""

import datetime
import json
import sys
import threading
import time

import confluent_kafka

STATUSES = ["pending", "confirmed", "shipped", "delivered", "cancelled"]
PATIENCE = 300


def main():
    want = json.loads(sys.argv[1])
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": want["kafka"],
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "delivery.timeout.ms": PATIENCE * 1000,
            "queue.buffering.max.messages": 1_000_000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
    failed = []

    def delivered(error, _):
        if error is not None:
            failed.append(str(error))

    start = time.monotonic()
    produced = 0
    while produced < want["count"] and not stop.is_set():
        due = want["count"] if want["rate"] == 0 else int((time.monotonic() - start) * want["rate"]) + 1
        due = min(due, want["count"], produced + 5_000)
        for number in range(produced, due):
            producer.produce(want["topic"], order(number), key=f"C{number % 997:05}", partition=number % want["partitions"],
                on_delivery=delivered)
        produced = max(produced, due)
        producer.poll(0)
        if want["rate"] != 0:
            stop.wait(0.02)
    left = producer.flush(PATIENCE)
    if left or failed:
        sys.exit(f"{left} orders were not acknowledged within {PATIENCE} s; refused: {failed[:3]}")
    print(json.dumps({"produced": produced}))


def order(number):
    quantity = 1 + number % 5
    price = 1 + number % 200
    items = [
        {"product_id": item, "product_name": f"product {item}", "quantity": quantity, "unit_price": price, "subtotal": quantity * price}
        for item in range(1 + number % 3)
    ]
    return json.dumps(
        {
            "order_id": number,
            "customer_id": f"C{number % 997:05}",
            "timestamp": datetime.datetime.fromtimestamp(1_735_689_600 + number, datetime.timezone.utc).isoformat(),
            "items": items,
            "total": sum(item["subtotal"] for item in items),
            "status": STATUSES[number % len(STATUSES)],
        }
    )


main()
