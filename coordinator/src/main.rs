//! `atone-coordinator`; the program is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    atone_coordinator::main()
}
