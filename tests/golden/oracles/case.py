"""A case as it is written: its YAML, and the tables in it. README.md describes the format."""

import dataclasses
import datetime
import decimal
import math
import re

import yaml

from nexmark import generate

DAY = "2026-01-01"
EXPECTED = "\nexpected:\n"


@dataclasses.dataclass
class Row:
    """One message of a source: where it lies, when it came, and its columns as cells (None is NULL)."""

    source: str
    partition: int
    offset: int
    epoch: int
    cells: dict


@dataclasses.dataclass
class Source:
    name: str
    schema: dict
    partitions: int
    column: str | None
    delay: datetime.timedelta | None
    policy: str


class Case:
    def __init__(self, path, name):
        self.path, self.name = path, name
        text = path.read_text()
        self.given = text.split(EXPECTED)[0].rstrip("\n") + "\n"
        self.expected = text[len(self.given) :]
        tree = yaml.safe_load(self.given)
        known = {"shows", "sources", "tables", "views", "outputs", "epochs", "oracle"}
        if unknown := set(tree) - known:
            raise ValueError(f"{name}: unknown keys {sorted(unknown)}")
        self.sources = {spec["name"]: source(spec) for spec in tree["sources"]}
        self.tables = {t["name"]: (schema(t["schema"]), table(t["rows"])) for t in tree.get("tables", [])}
        self.views = tree.get("views", [])
        self.outputs = tree["outputs"]
        self.oracle = tree["oracle"]
        self.generated = tree["epochs"] == "nexmark"
        epochs = generated(self.sources) if self.generated else tree["epochs"]
        self.epochs = len(epochs)
        self.rows, self.idle = [], []
        offsets = {}
        for number, epoch in enumerate(epochs, 1):
            idle = epoch.pop("idle", {})
            self.idle.append({(name, partition) for name in idle for partition in idle[name]})
            for name, rows in epoch.items():
                for cells in rows if self.generated else table(rows):
                    at = (name, int(cells.pop("partition")))
                    offset = offsets[at] = offsets.get(at, -1) + 1
                    assert at[1] < self.sources[name].partitions, f"{self.name}: {name} has no partition {at[1]}"
                    self.rows.append(Row(*at, offset, number, cells))

    def query(self, engine, name):
        """The text of a view or an output for an engine: its own one, or else Millrace's."""
        own = (self.oracle[engine] or {}).get(name)
        return own or next(q["sql"] for q in self.views + self.outputs if q["name"] == name)


def source(spec):
    time = spec.get("eventTime", {})
    delay = duration(time["watermarkDelay"]) if time else None
    columns = {**schema(spec["schema"]), "_timestamp": "TIMESTAMP"}
    return Source(spec["name"], columns, spec["partitions"], time.get("column"), delay, time.get("policy", "min"))


def generated(sources):
    """The epochs of nexmark/generate.py, with the rows that the case's sources have."""
    epochs = [{name: [] for name in sources} for _ in range(generate.EPOCHS)]
    for name, columns in generate.generate():
        if name in sources:
            cells = {column: cell_of(value) for column, value in columns.items()}
            epochs[columns["_epoch"] - 1][name].append({**cells, "partition": cells["_partition"]})
    return epochs


def schema(ddl):
    """Columns and their types. Only scalar types occur."""
    return dict(column.split(None, 1) for column in re.split(r",\s*(?![^(]*\))", ddl.strip()))


def duration(text):
    number, unit = re.fullmatch(r"(\d+)([smhd])", text).groups()
    return datetime.timedelta(seconds=int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit])


def table(text):
    """The rows of a table: a line of column names, then a line a row, cells separated by bars."""
    lines = [[cell.strip() for cell in line.split("|")] for line in text.strip("\n").splitlines()]
    assert all(len(line) == len(lines[0]) for line in lines), text
    return [{name: None if cell == "NULL" else cell for name, cell in zip(lines[0], line)} for line in lines[1:]]


def write_table(columns, rows):
    """The same in aligned text. Rows are lists of cells."""
    lines = [columns] + [["NULL" if cell is None else cell for cell in row] for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "".join(" | ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)


def time_of(cell):
    """A timestamp's cell as a time. A time of day alone is on 1 January 2026."""
    if cell is None:
        return None
    full = cell if "-" in cell else f"{DAY} {cell}"
    return datetime.datetime.fromisoformat(full)


def cell_of(value):
    """An engine's value as a cell."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        text = value.replace(tzinfo=None).isoformat(" ")
        return text.removeprefix(f"{DAY} ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(cell_of(each) or "NULL" for each in value) + "]"
    text = str(value)
    assert "|" not in text and text == text.strip() and text != "NULL", f"{text!r} cannot be written as a cell"
    return text


def order(cells):
    """A key that sorts rows of cells: NULL first, numbers as numbers."""
    return [(0, 0, "") if cell is None else number(cell) for cell in cells]


def number(cell):
    try:
        return (1, float(cell), "")
    except ValueError:
        return (2, 0, cell)


def same(left, right):
    """Whether two cells say the same: numbers within rounding, everything else exactly."""
    if left == right:
        return True
    try:
        return math.isclose(float(left), float(right), rel_tol=1e-9)
    except (TypeError, ValueError):
        return False
