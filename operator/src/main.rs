//! The operator's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_operator::main()
}
