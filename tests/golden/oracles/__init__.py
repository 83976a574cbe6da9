"""What computes the expectations: cases as they are written, a reference for watermarks, DuckDB and Spark."""
