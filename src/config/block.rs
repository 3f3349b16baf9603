//! A block of YAML: keys with their types and defaults, declared once; reading, listing and comparing all derive from
//! that. Knows no kind of value.

use ::config::{Map, Value, ValueKind};

use super::mistake::Report;

/// The value of a key: a scalar, a list or a block.
pub(super) trait Setting: Sized + PartialEq {
    /// Adds the dotted path of each key that can be set by itself.
    fn keys(path: &str, into: &mut Vec<String>) {
        into.push(path.to_owned());
    }

    /// Reads the value; `None` keeps the default, because nothing was given or because the value was reported as wrong.
    fn read(value: Value, path: &str, report: &mut Report) -> Option<Self>;

    /// Adds the dotted path of each key whose value differs in `other`.
    fn differing(&self, other: &Self, path: &str, into: &mut Vec<String>) {
        if self != other {
            into.push(path.to_owned());
        }
    }
}

/// Declares YAML blocks: each key with its type and its default, once.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident { $($(#[$key_doc:meta])* $key:ident: $kind:ty = $default:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$key_doc])* pub $key: $kind,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::config::block::Setting for $name {
            fn keys(path: &str, into: &mut Vec<String>) {
                $(<$kind>::keys(&$crate::config::block::join(path, stringify!($key)), into);)+
            }

            fn read(
                value: ::config::Value,
                path: &str,
                report: &mut $crate::config::mistake::Report,
            ) -> Option<Self> {
                use $crate::config::block::{open, take};
                let mut table = open(value, path, &[$(stringify!($key)),+], report)?;
                Some(Self { $($key: take(&mut table, path, stringify!($key), report).unwrap_or_else(|| $default),)+ })
            }

            fn differing(&self, other: &Self, path: &str, into: &mut Vec<String>) {
                use $crate::config::block::{Setting, join};
                $(Setting::differing(&self.$key, &other.$key, &join(path, stringify!($key)), into);)+
            }
        }
    };
}
pub(super) use block;

/// Returns the path of a key inside the block at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Takes a block apart and reports the keys that it does not know.
pub(super) fn open(value: Value, path: &str, keys: &[&str], report: &mut Report) -> Option<Map<String, Value>> {
    match value.kind {
        ValueKind::Nil => None,
        ValueKind::Table(table) => {
            for key in table.keys().filter(|key| !keys.contains(&key.as_str())) {
                report.unknown_key(&join(path, key), key, keys);
            }
            Some(table)
        }
        _ => {
            report.mistake(path, format!("must be a block with the keys {}", keys.join(", ")));
            None
        }
    }
}

/// Reads one key of a block.
pub(super) fn take<T: Setting>(
    table: &mut Map<String, Value>,
    path: &str,
    key: &str,
    report: &mut Report,
) -> Option<T> {
    T::read(table.remove(key)?, &join(path, key), report)
}
