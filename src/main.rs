//! The binary: parses the command line, starts tracing, calls, maps the result to an exit code; nothing else.

fn main() {}
