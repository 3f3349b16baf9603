//! Keeps this process's memory, with the secrets in it, out of core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One byte: no file is that small, so none is written; and to Linux the very value 1 means that no program is handed a dump
/// either (`core(5)`, `fs/coredump.c`), which it is at a limit of zero.
const NONE: u64 = 1;

/// Has the system keep no core dump of this process, however it ends. Root can allow it again while it runs:
/// `prlimit --pid PID --core=unlimited`.
pub fn forbid_core_dumps() {
    let none = Rlimit { current: Some(NONE), maximum: Some(NONE) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        // Whoever may not raise it from zero has none written, unless a program takes dumps.
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
