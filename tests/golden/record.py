"""Computes the expectations of the golden cases with engines that are not Millrace.

    record.py record [--duckdb] [CASE…]   writes them into the cases
    record.py check [--duckdb] [CASE…]    compares them with what is there; exit 1 with a diff if they differ

A CASE is a topic or topic/name; without any, all are meant. With --duckdb Spark is not asked, and cases that only it can
answer are left out: seconds instead of minutes. V=1 tells how far it is. README.md beside this file describes a case.
"""

import datetime
import difflib
import hashlib
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True  # a checkout stays as it is

from oracles.case import Case, cell_of, order, same, write_table
from oracles.duck import Duck
from oracles.watermarks import watermarks

HERE = pathlib.Path(__file__).resolve().parent


class Disagreement(Exception):
    """Two oracles, or an oracle and the reference for watermarks, do not say the same."""


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("record", "check"):
        sys.exit(__doc__)
    only_duckdb = "--duckdb" in sys.argv
    wanted = [argument for argument in sys.argv[2:] if argument != "--duckdb"]
    paths = sorted(path for path in HERE.glob("*/*.yaml") if chosen(path, wanted))
    if not paths:
        sys.exit(f"no case is called {' or '.join(wanted)}")
    start, differ, broken, left_out, spark = time.monotonic(), [], [], 0, None if only_duckdb else Lazy()
    for path in paths:
        case = Case(path, name_of(path))
        if only_duckdb and needs_spark(case):
            left_out += 1
            continue
        try:
            expected = expectation(case, spark)
        except Exception as problem:  # one case that an engine refuses must not hide the others
            broken.append(case.name)
            print(f"{case.name}: {type(problem).__name__}: {str(problem)[:2000]}", file=sys.stderr)
            continue
        if os.environ.get("V"):
            print(f"{time.monotonic() - start:5.0f} s {case.name}", file=sys.stderr)
        if expected == case.expected:
            continue
        differ.append(case.name)
        if sys.argv[1] == "record":
            path.write_text(case.given + expected)
            continue
        lines = difflib.unified_diff(
            case.expected.splitlines(), expected.splitlines(), f"{case.name} as recorded", "as computed", lineterm=""
        )
        print("\n".join(lines))
    if spark:
        spark.close()
    what = "written" if sys.argv[1] == "record" else "differ"
    seconds = time.monotonic() - start
    counts = f"{len(differ)} {what}, {len(broken)} failed, {left_out} left out, the others as recorded"
    print(f"{len(paths)} cases in {seconds:.0f} s: {counts}")
    sys.exit(bool(broken) or (sys.argv[1] == "check" and bool(differ)))


def chosen(path, wanted):
    name = name_of(path)
    return not wanted or name in wanted or name.split("/")[0] in wanted


def name_of(path):
    return path.relative_to(HERE).with_suffix("").as_posix()


class Lazy:
    """Spark, started for the first case that asks it: a few seconds, and a JVM."""

    def __init__(self):
        self.started = None

    def run(self, case, output):
        if self.started is None:
            from oracles.spark import Spark

            self.started = Spark()
        return self.started.run(case, output)

    def close(self):
        if self.started is not None:
            self.started.close()


def needs_spark(case):
    """Whether there is something that DuckDB does not tell."""
    if "spark" not in case.oracle:
        return False
    return "duckdb" not in case.oracle or any(
        (output["outputMode"] == "complete" and output.get("byEpoch"))
        or (output["outputMode"] == "update" and not changes_by_duckdb(case, output))
        for output in case.outputs
    )


def expectation(case, spark):
    """The text of a case from `expected:` on."""
    marks = watermarks(case)
    late = Duck(case, marks).late
    text = "\nexpected:\n"
    if any(marks):
        text += "  watermarks: [" + ", ".join(f'"{cell_of(mark)}"' if mark else "null" for mark in marks) + "]\n"
    if late:
        rows = [[cell_of(value) for value in row] for row in late]
        text += block("  late", write_table(["source", "epoch", "partition", "offset"], rows))
    for output in case.outputs:
        answers = []
        if spark and "spark" in case.oracle:
            answers.append(by_spark(case, output, spark, marks, late))
        if "duckdb" in case.oracle:
            answers.append(by_duckdb(case, output, marks))
        for other in answers[1:]:
            agree(answers[0], other)
        text += f"  {output['name']}:\n"
        for name, (columns, rows) in answers[0].items():
            if case.generated:
                text += digest(f"    {name}", columns, rows)
            elif rows or name == "rows":
                text += block(f"    {name}", write_table(columns, rows))
    return text


def digest(key, columns, rows):
    """What stands for the rows of a generated input: how many, the first three, and a hash of them all."""
    if columns[0] == "epoch":
        columns, rows = columns[1:], [row[1:] for row in rows]
    lines = sorted("|".join("NULL" if cell is None else cell for cell in row) for row in rows)
    sha256 = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    first = write_table(columns, [line.split("|") for line in lines[:3]])
    return f"{key}:\n      count: {len(rows)}\n      sha256: {sha256}\n" + block("      first", first)


def block(key, table):
    indent = " " * (len(key) - len(key.lstrip()) + 2)
    return f"{key}: |\n" + "".join(f"{indent}{line}\n" for line in table.splitlines())


def by_duckdb(case, output, marks):
    columns, found = Duck(case, marks).answer(output)
    if output["outputMode"] == "append":
        return append(columns, found)
    rows = [cells for _, cells in found]
    answer = {"rows": (columns, rows if output.get("ordered") else sorted(rows, key=order))}
    # What an epoch emits are the groups of its rows, with the values that all rows until then give them.
    if output["outputMode"] == "update" and changes_by_duckdb(case, output):
        at = [columns.index(name) for name in output["key"]]
        emitted = []
        for epoch in range(1, case.epochs + 1):
            touched = {tuple(cells[i] for i in at) for _, cells in Duck(case, marks, [epoch]).answer(output)[1]}
            until = Duck(case, marks, range(1, epoch + 1)).answer(output)[1]
            emitted += [(epoch, cells) for _, cells in until if tuple(cells[i] for i in at) in touched]
        answer["byEpoch"] = by_epoch(columns, emitted)
    return answer


def changes_by_duckdb(case, output):
    """A session's group is not known from an epoch's rows alone, nor does HAVING see them alone."""
    sql = case.query("duckdb", output["name"])
    return not case.generated and "sessions(" not in sql and "HAVING" not in sql


def by_spark(case, output, spark, marks, late):
    columns, emitted, unemitted, seen, dropped = spark.run(case, output)
    for epoch, (mine, theirs) in enumerate(zip(marks, seen), 1):
        # In complete mode no batch without data follows, which would show the watermark that an epoch ended with.
        if theirs is None or output["outputMode"] == "complete":
            continue
        theirs = datetime.datetime.fromisoformat(theirs.removesuffix("Z"))
        if theirs != (mine or datetime.datetime(1970, 1, 1)):
            raise Disagreement(f"after epoch {epoch} the reference's watermark is {mine}, Spark's {theirs}")
    if late and not dropped:
        raise Disagreement(f"late by the case's condition: {late}; Spark dropped nothing")
    if dropped and "late" not in case.oracle:
        raise Disagreement(f"Spark dropped {dropped} late rows, and the case has no condition for late rows")
    if output["outputMode"] == "append":
        return append(columns, emitted + [(None, cells) for cells in unemitted])
    if output["outputMode"] == "update":
        return update(columns, emitted, output["key"])
    last = max((epoch for epoch, _ in emitted), default=None)
    rows = [cells for epoch, cells in emitted if epoch == last]
    rows = rows if output.get("ordered") else sorted(rows, key=order)
    answer = {"rows": (columns, rows)}
    if output.get("byEpoch"):
        answer["byEpoch"] = by_epoch(columns, emitted, output.get("ordered"))
    return answer


def append(columns, found):
    unemitted = sorted((cells for epoch, cells in found if epoch is None), key=order)
    emitted = [(epoch, cells) for epoch, cells in found if epoch is not None]
    return {"rows": by_epoch(columns, emitted), "unemitted": (columns, unemitted)}


def update(columns, emitted, key):
    at = [columns.index(name) for name in key]
    last = {}
    for _, cells in emitted:
        last[tuple(cells[i] for i in at)] = cells
    return {"rows": (columns, sorted(last.values(), key=order)), "byEpoch": by_epoch(columns, emitted)}


def by_epoch(columns, emitted, ordered=False):
    rows = [[str(epoch)] + cells for epoch, cells in emitted]
    return ["epoch"] + columns, rows if ordered else sorted(rows, key=order)


def agree(one, other):
    for name, (columns, rows) in other.items():
        if name not in one:
            continue
        theirs = one[name]
        if columns != theirs[0] or len(rows) != len(theirs[1]):
            equal = False
        else:
            equal = all(same(a, b) for x, y in zip(rows, theirs[1]) for a, b in zip(x, y))
        if not equal:
            raise Disagreement(
                f"{name} by Spark:\n{write_table(*theirs)}by DuckDB:\n{write_table(columns, rows)}"
            )


if __name__ == "__main__":
    main()
