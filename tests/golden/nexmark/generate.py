"""A small auction site, the same at every run: persons, auctions and bids as NEXMark has them.

    generate.py DIRECTORY    writes person.jsonl, auction.jsonl and bid.jsonl there, a message a line in the order of arrival

Each message has the columns of its source, and _partition, _epoch and _timestamp (its arrival). Event times are unique and
up to two seconds behind their order of arrival, so that with a delay of four seconds nothing is late.
"""

import datetime
import json
import pathlib
import sys

EVENTS = 5_000
EPOCHS = 10
BEGIN = datetime.datetime(2026, 1, 1, 12)
STEP = datetime.timedelta(milliseconds=20)
PARTITIONS = {"person": 1, "auction": 1, "bid": 2}
SCHEMAS = {
    "person": "id BIGINT, name STRING, email STRING, city STRING, state STRING, ts TIMESTAMP",
    "auction": "id BIGINT, item STRING, initial_bid BIGINT, ts TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT",
    "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP",
}

NAMES = ["Ada", "Ben", "Cleo", "Dov", "Eva", "Finn", "Gus", "Hana"]
CITIES = [("Portland", "OR"), ("Boise", "ID"), ("Oakland", "CA"), ("Phoenix", "AZ"), ("Cheyenne", "WY")]
CHANNELS = ["search", "letter", "friends", "banner"]


class Random:
    """SplitMix64: the same numbers in every version of every language."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) % bound

    def pick(self, things):
        return things[self.below(len(things))]


def generate():
    """Every message as (source, columns), in the order of arrival."""
    random, people, auctions, events = Random(22), [], [], []
    for number in range(EVENTS):
        now = BEGIN + number * STEP
        place = number % 50
        if place == 0:
            source, columns = "person", person(random, people)
        elif place < 4:
            source, columns = "auction", auction(random, people, auctions, now)
        else:
            source, columns = "bid", bid(random, people, auctions)
        columns["ts"] = now
        columns["_timestamp"] = now + datetime.timedelta(milliseconds=random.below(2_000))
        columns["_partition"] = random.below(PARTITIONS[source])
        events.append((source, columns))
    events.sort(key=lambda event: event[1]["_timestamp"])
    for number, (_, columns) in enumerate(events):
        columns["_epoch"] = 1 + number * EPOCHS // EVENTS
    return events


def person(random, people):
    city, state = random.pick(CITIES)
    name = random.pick(NAMES)
    people.append(1_000 + len(people))
    return {"id": people[-1], "name": name, "email": f"{name.lower()}{people[-1]}@example.com", "city": city, "state": state}


def auction(random, people, auctions, now):
    auctions.append(1_000 + len(auctions))
    return {
        "id": auctions[-1],
        "item": f"item {random.below(1_000)}",
        "initial_bid": 1 + random.below(100),
        "expires": now + datetime.timedelta(seconds=1 + random.below(20)),
        "seller": random.pick(people[-20:]),
        "category": 10 + random.below(5),
    }


def bid(random, people, auctions):
    # Half of the bids are for the newest auctions: some are hot.
    chosen = random.pick(auctions[-5:] if random.below(2) else auctions[-100:])
    channel = random.pick(CHANNELS)
    return {
        "auction": chosen,
        "bidder": random.pick(people),
        "price": 100 + random.below(1_000_000),
        "channel": channel,
        "url": f"https://auctions.example.com/{channel}/{chosen % 7}/{random.below(1_000)}/item.html",
    }


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    files = {source: open(directory / f"{source}.jsonl", "w") for source in SCHEMAS}
    for source, columns in generate():
        json.dump(columns, files[source], default=lambda time: time.isoformat(timespec="microseconds") + "Z")
        files[source].write("\n")
    for file in files.values():
        file.close()


if __name__ == "__main__":
    main()
