//! The rules about habits: sizes, names, comments, logs, tests. Each reads one Rust file.

use crate::{Broken, source::Source};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

/// Endings of names that do not say what the thing is.
const EMPTY_NAMES: &[&str] = &["Manager", "Helper", "Helpers", "Util", "Utils", "Processor"];

const LOG_MACROS: &[&str] = &["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// A file has at most 400 lines, a function 70.
pub fn files_and_functions_are_short(source: &Source) -> Vec<Broken> {
    let length = source.text.lines().count();
    let mut broken = Vec::new();
    if length > FILE_LINES {
        broken.push(Broken::new(FILE_LINES + 1, format!("{length} lines; {FILE_LINES} are enough")));
    }
    for function in source.functions() {
        let (first, last) = (*function.lines.start(), *function.lines.end());
        let length = last - first + 1;
        if length > FUNCTION_LINES && !source.is_test(first) {
            broken.push(Broken::new(
                first,
                format!("fn {} has {length} lines; {FUNCTION_LINES} are enough", function.name),
            ));
        }
    }
    broken
}

/// Line 1 says what the file owns and what it does not know.
pub fn line_one_says_what_it_is(source: &Source) -> Vec<Broken> {
    let good = source.text.lines().next().is_some_and(|line| line.starts_with("//! "));
    if good { Vec::new() } else { vec![Broken::new(1, "line 1 is no `//!` sentence".to_owned())] }
}

/// No unfinished code, ignored test or debug print is left.
pub fn nothing_is_left_unfinished(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for mark in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "#![allow(dead_code", "#[allow(dead_code"] {
        broken.extend(source.lines_with(mark).into_iter().map(|line| Broken::new(line, format!("`{mark}`"))));
    }
    // On the whole text, because the code has comments blanked.
    for mark in [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")] {
        let lines = source.text.lines().enumerate().filter(|(_, line)| line.contains(mark));
        broken.extend(lines.map(|(index, _)| Broken::new(index + 1, format!("`{mark}`"))));
    }
    broken
}

/// Tests that run on a paused clock as a whole, where nothing really sleeps.
const PAUSED: &str = "tests/simulation/";

/// A test waits for a condition. It sleeps only on tokio's paused clock, or between two polls in `eventually…`.
pub fn tests_do_not_sleep(source: &Source) -> Vec<Broken> {
    if source.path.starts_with(PAUSED) {
        return Vec::new();
    }
    let functions = source.functions();
    let text: Vec<&str> = source.text.lines().collect();
    let excused = |line: usize| {
        let around = functions.iter().filter(|function| function.lines.contains(&line));
        around.into_iter().any(|function| {
            let first = *function.lines.start();
            let attributes = text.get(first.saturating_sub(4)..first).unwrap_or_default();
            function.name.starts_with("eventually") || attributes.iter().any(|line| line.contains("start_paused"))
        })
    };
    let sleeps =
        source.paths().into_iter().filter(|(_, path)| path.ends_with("thread::sleep") || path.ends_with("time::sleep"));
    let found = sleeps.filter(|(line, _)| source.is_test(*line) && !excused(*line));
    found.map(|(line, path)| Broken::new(line, format!("`{path}` in a test: wait for a condition"))).collect()
}

/// A dropped result has its reason in a comment, on its line or above its statement, in every spelling: `let _ =`, `_
/// =`, the same in a closure, or `.ok();`.
pub fn a_dropped_result_says_why(source: &Source) -> Vec<Broken> {
    let text: Vec<&str> = source.text.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let dropped = |line: usize| {
        let mut first = line - 1;
        while first > 0 && code.get(first - 1).is_some_and(|above| continues(above)) {
            first -= 1;
        }
        let statement = code.get(first).map_or("", |line| line.trim());
        let closure = code.get(line - 1).is_some_and(|line| drops_in_a_closure(line));
        let kept = statement.contains(" = ")
            && !statement.starts_with("let _ =")
            && !statement.starts_with("_ = ")
            && !closure;
        let above =
            first.checked_sub(1).and_then(|index| text.get(index)).is_some_and(|line| line.trim().starts_with("//"));
        let explained = above || text.get(line - 1).is_some_and(|line| line.contains("// "));
        !kept && !explained && !source.is_test(line)
    };
    // An arm of `select!` begins the same way.
    let assigns = |line: &str| line.trim_start().starts_with("_ = ") && !line.contains("=>");
    let drops = |line: &str| assigns(line) || drops_in_a_closure(line);
    let drops = |line: &str| line.contains("let _ =") || line.contains(".ok();") || drops(line);
    let found = (1..).zip(&code).filter(|(line, text)| drops(text) && dropped(*line));
    found.map(|(line, _)| Broken::new(line, "a result is dropped without a reason".to_owned())).collect()
}

/// Whether a closure on this line drops a result.
fn drops_in_a_closure(code: &str) -> bool {
    code.contains("| _ = ")
}

/// Whether the statement on this line continues on the next.
fn continues(code: &str) -> bool {
    let code = code.trim_end();
    !code.trim().is_empty() && !code.ends_with([';', '{', '}', ','])
}

/// No `utils.rs`, no `*Manager`, no `get_`.
pub fn names_say_what_things_are(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    let file = source.path.rsplit('/').next().unwrap_or_default();
    if ["util.rs", "utils.rs", "helper.rs", "helpers.rs", "misc.rs"].contains(&file) {
        broken.push(Broken::new(1, format!("a file called {file} owns nothing")));
    }
    for (index, line) in source.code.lines().enumerate() {
        for keyword in ["struct ", "enum ", "trait ", "type "] {
            let Some((_, rest)) = line.split_once(keyword) else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if EMPTY_NAMES.iter().any(|end| name.ends_with(end)) {
                broken.push(Broken::new(index + 1, format!("{name} says nothing")));
            }
        }
    }
    let getters = source
        .functions()
        .into_iter()
        .filter(|function| function.name.starts_with("get_") && function.name != "get_mut");
    broken.extend(
        getters.map(|function| Broken::new(*function.lines.start(), format!("fn {}: no `get_`", function.name))),
    );
    broken
}

/// Queues that a user can fill are bounded: no channel without a bound, and no `do_send`, which ignores a mailbox's.
pub fn every_queue_has_a_bound(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for mark in ["do_send(", "unbounded_channel", "unbounded("] {
        let found = source.lines_with(mark).into_iter().filter(|line| !source.is_test(*line));
        broken.extend(found.map(|line| Broken::new(line, format!("`{mark}`: a queue without a bound"))));
    }
    broken
}

/// Nothing that is shipped prints by a macro, which panics where the stream cannot be written: `console` prints.
pub fn nothing_printed_panics(source: &Source) -> Vec<Broken> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for mark in ["print!(", "println!("] {
        let found = source.lines_with(mark).into_iter().filter(|line| !source.is_test(*line));
        broken.extend(found.map(|line| Broken::new(line, format!("`{mark}`: print by `console`"))));
    }
    broken
}

/// Log messages begin lowercase and end without a period.
pub fn logs_are_lowercase(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for name in LOG_MACROS {
        for (offset, _) in source.code.match_indices(name) {
            let before = offset.checked_sub(1).and_then(|index| source.code.as_bytes().get(index));
            let Some(message) = message(source, offset + name.len()) else { continue };
            let mut letters = message.chars();
            let (first, second) = (letters.next(), letters.next());
            // Acronyms are allowed: `SSH agent`.
            let capital = first.is_some_and(char::is_uppercase) && !second.is_some_and(char::is_uppercase);
            let is_macro = !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            if is_macro && (capital || message.ends_with('.')) {
                broken.push(Broken::new(source.line(offset), format!("log message {message:?}")));
            }
        }
    }
    broken
}

/// Returns the message of a log macro: the first literal that is an argument by itself.
fn message(source: &Source, start: usize) -> Option<&str> {
    let mut depth = 0_i32;
    let mut argument_begins = true;
    let mut bytes = source.code.bytes().enumerate().skip(start);
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let (end, _) = bytes.by_ref().find(|(_, byte)| *byte == b'"')?;
                if argument_begins && depth == 0 {
                    return source.text.get(index + 1..end);
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
        argument_begins = byte == b',' || argument_begins && byte.is_ascii_whitespace();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        let rule = files_and_functions_are_short;
        assert_eq!(lines(rule, "src/a.rs", &"\n".repeat(FILE_LINES + 1)), [FILE_LINES + 1]);
        assert_eq!(lines(rule, "src/a.rs", &format!("\nfn a() {{{}}}", "\n".repeat(FUNCTION_LINES))), [2]);
        assert!(lines(rule, "src/a.rs", &format!("fn a() {{{}}}", "\n".repeat(FUNCTION_LINES - 1))).is_empty());
    }

    #[test]
    fn a_file_without_a_first_sentence_is_found() {
        assert_eq!(lines(line_one_says_what_it_is, "src/a.rs", "use a;\n//! Late."), [1]);
        assert!(lines(line_one_says_what_it_is, "src/a.rs", "//! Owns a.").is_empty());
    }

    #[test]
    fn unfinished_work_is_found() {
        let rule = nothing_is_left_unfinished;
        assert_eq!(lines(rule, "src/a.rs", "fn a() {\n todo!()\n}\n#[ignore = \"slow\"]"), [2, 4]);
        assert_eq!(lines(rule, "src/a.rs", concat!("// FIX", "ME: later")), [1]);
        assert!(lines(rule, "src/a.rs", "// ignore what is not ours\nlet a = \"todo!()\";").is_empty());
    }

    #[test]
    fn a_sleeping_test_is_found() {
        let rule = tests_do_not_sleep;
        assert_eq!(lines(rule, "tests/a.rs", "fn a() { tokio::time::sleep(x).await; }"), [1]);
        assert_eq!(lines(rule, "src/a.rs", "#[cfg(test)]\nmod tests { use std::thread::sleep; }"), [2]);
        assert!(lines(rule, "src/a.rs", "fn a() { tokio::time::sleep(x).await; }").is_empty());
        assert!(lines(rule, "tests/a.rs", "async fn eventually() { tokio::time::sleep(x).await; }").is_empty());
        let paused = "#[tokio::test(start_paused = true)]\nasync fn a() { tokio::time::sleep(x).await; }";
        assert!(lines(rule, "tests/a.rs", paused).is_empty());
        assert!(lines(rule, "tests/simulation/a.rs", "fn a() { tokio::time::sleep(x).await; }").is_empty());
    }

    #[test]
    fn a_silently_dropped_result_is_found() {
        let rule = a_dropped_result_says_why;
        assert_eq!(lines(rule, "src/a.rs", "\nlet _ = send();\nsend().ok();"), [2, 3]);
        assert!(lines(rule, "src/a.rs", "// Nobody listens any more.\nlet _ = send();").is_empty());
        assert!(lines(rule, "src/a.rs", "send().ok(); // nobody listens").is_empty());
        assert!(lines(rule, "src/a.rs", "// Nobody listens.\nsender\n  .send()\n  .ok();").is_empty());
        assert!(lines(rule, "src/a.rs", "let a = parse()\n  .ok();\nlet b = parse().ok()?;").is_empty());
        assert!(lines(rule, "tests/a.rs", "child.wait().ok();").is_empty());
        assert_eq!(lines(rule, "src/a.rs", "\n_ = send();\nlet a = all.map(|_| _ = send());"), [2, 3]);
        assert!(lines(rule, "src/a.rs", "select! {\n  _ = a.recv() => 1,\n  _ => 2,\n}").is_empty());
        assert!(lines(rule, "src/a.rs", "// Nobody listens.\nall.map(|_| _ = send())?;").is_empty());
    }

    #[test]
    fn an_empty_name_is_found() {
        let rule = names_say_what_things_are;
        assert_eq!(lines(rule, "src/a.rs", "pub struct SessionManager;\nfn get_id() {}"), [1, 2]);
        assert_eq!(lines(rule, "src/web/utils.rs", ""), [1]);
        assert!(lines(rule, "src/a.rs", "struct Managed; fn get() {}").is_empty());
    }

    #[test]
    fn a_queue_without_a_bound_is_found() {
        let rule = every_queue_has_a_bound;
        assert_eq!(lines(rule, "src/a.rs", "\nregistry.do_send(a);\nlet (a, b) = mpsc::unbounded_channel();"), [2, 3]);
        assert!(lines(rule, "src/a.rs", "// not do_send(a)\nregistry.try_send(a)?;\nmpsc::channel(4);").is_empty());
        assert!(lines(rule, "tests/a.rs", "actor.do_send(a);").is_empty());
    }

    #[test]
    fn a_print_that_may_panic_is_found() {
        let rule = nothing_printed_panics;
        assert_eq!(
            lines(rule, "src/a.rs", "println!(\"a\");\n eprintln!();\nprint!(\"a\");\neprint!(\"a\");"),
            [1, 2, 3, 4]
        );
        assert!(lines(rule, "src/a.rs", "// println!(a)\nconsole::say(\"print!(a)\")?;").is_empty());
        assert!(lines(rule, "src/a.rs", "#[cfg(test)]\nmod tests {\n fn a() { println!(); }\n}").is_empty());
        assert!(lines(rule, "xtask/src/a.rs", "println!();").is_empty());
    }

    #[test]
    fn a_shouting_log_is_found() {
        let rule = logs_are_lowercase;
        assert_eq!(lines(rule, "src/a.rs", "info!(id = %id, \"Session opened\");"), [1]);
        assert_eq!(lines(rule, "src/a.rs", "\ntracing::warn!(\n  \"session opened.\",\n);"), [2]);
        assert!(lines(rule, "src/a.rs", "info!(id = \"A.\", a = f(\"B.\"), \"session opened\");").is_empty());
        assert!(lines(rule, "src/a.rs", "error!(\"SSH agent gone\");").is_empty());
    }
}
