//! Keeps this process's memory, with the secrets in it, out of core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on core dumps: one byte. No dump is that small, so no file is written; and to Linux the exact value 1
/// means that a dump is not piped to a program either (`core(5)`, `fs/coredump.c`), which it is at a limit of zero.
const NONE: u64 = 1;

/// Forbids core dumps of this process, however it ends. Root can allow them again while it runs: `prlimit --pid PID
/// --core=unlimited`.
pub fn forbid_core_dumps() {
    let none = Rlimit { current: Some(NONE), maximum: Some(NONE) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        // A process that may not raise the limit from zero writes no dump, unless dumps are piped to a program.
        let written = getrlimit(Resource::Core).maximum != Some(0);
        tracing::warn!(%error, written, "core dumps cannot be forbidden; one would hold secrets");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_dump_is_neither_written_nor_handed_on() {
        forbid_core_dumps();
        let limit = getrlimit(Resource::Core);
        assert!(limit.current.is_some_and(|most| most <= NONE) && limit.maximum.is_some_and(|most| most <= NONE));
    }
}
