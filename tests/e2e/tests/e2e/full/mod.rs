//! What the operator promises beyond the smoke tests, with the figures of it, on a kind cluster. One test at a time:
//! they take nodes and servers away.

mod continuing;
mod edits;
mod faults;
mod kills;
mod nodes;
mod operator;
mod outages;
mod rights;
mod scaling;
