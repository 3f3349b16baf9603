//! The rules about files other than Rust: migrations, lock files, and every shipped text.

use crate::Broken;

/// Machine paths that no shipped text may contain; concatenated, so that this file does not.
const MACHINE_PATHS: &[&str] = &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];

/// Migrations are `NNNN_what.sql`, counted from 1 without gaps, each with its reverse, `NNNN_what.down.sql`.
pub fn migrations_are_counted(names: &[String]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let up = names.iter().filter(|name| !name.ends_with(".down.sql"));
    for (index, name) in up.enumerate() {
        let number = format!("{:04}_", index + 1);
        if !name.starts_with(&number) || !name.ends_with(".sql") {
            broken.push(Broken::new(1, format!("{name} should be called {number}….sql")));
        }
        let down = format!("{}.down.sql", name.trim_end_matches(".sql"));
        if !names.contains(&down) {
            broken.push(Broken::new(1, format!("{name} has no way back: {down} is missing")));
        }
    }
    let steps = names.len() / 2;
    if broken.is_empty() && names.len() != 2 * steps {
        broken.push(Broken::new(1, "a way back from a step that does not exist".to_owned()));
    }
    broken
}

/// A lock file contains no download address: each machine has its own registry.
pub fn lock_names_no_address(text: &str) -> Vec<Broken> {
    lines_with(text, &[concat!("\"resolved\"", ": \"http")])
}

/// Shipped text contains no path of the machine it was written on.
pub fn text_names_no_machine(text: &str) -> Vec<Broken> {
    lines_with(text, MACHINE_PATHS)
}

fn lines_with(text: &str, needles: &[&str]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let found = needles.iter().filter(|needle| line.contains(**needle));
        broken.extend(found.map(|needle| Broken::new(index + 1, format!("`{needle}`"))));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_between_migrations_is_found() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let count = |list: &[&str]| migrations_are_counted(&names(list)).len();
        assert_eq!(count(&["0001_a.down.sql", "0001_a.sql", "0002_b.down.sql", "0002_b.sql"]), 0);
        assert_eq!(count(&["0001_a.down.sql", "0001_a.sql", "0003_b.down.sql", "0003_b.sql"]), 1);
        assert_eq!(count(&["1_a.down.sql", "1_a.sql"]), 1);
    }

    #[test]
    fn a_migration_without_a_way_back_is_found() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(migrations_are_counted(&names(&["0001_a.sql"])).len(), 1);
        assert_eq!(migrations_are_counted(&names(&["0001_a.down.sql", "0001_a.sql", "0002_b.down.sql"])).len(), 1);
    }

    #[test]
    fn an_address_in_a_lock_file_is_found() {
        assert_eq!(lock_names_no_address(&["{\n\"resolved\"", ": \"https://a/b.tgz\"\n}"].concat()).len(), 1);
        assert!(lock_names_no_address("{\"name\": \"a\", \"integrity\": \"sha512-x\"}").is_empty());
    }

    #[test]
    fn a_machine_path_is_found() {
        assert_eq!(text_names_no_machine(concat!("a\nsee /ro", "ot/a")).len(), 1);
        assert!(text_names_no_machine("web/root.ts, /data, /tmp/a").is_empty());
    }
}
