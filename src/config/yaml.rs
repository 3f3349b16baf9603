//! YAML as a tree in which every scalar is the text it was written as, and the place of each key and value in the file.
//! Knows no key.

use std::{borrow::Cow, fmt};

use ::config::{Map, Value, ValueKind};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    DefaultMessageFormatter, DuplicateKeyPolicy, Location, MessageFormatter, NonFiniteFloatPolicy, Spanned,
};

use super::{
    block::join,
    mistake::{Place, Position, Report},
};

/// Parses the file and remembers the place of everything; `None` after reporting that it is not YAML.
pub(super) fn parse_file(text: &str, report: &mut Report) -> Option<Value> {
    let tree = parse(text).map_err(|(position, message)| report.add(report.file().to_owned(), position, "", message));
    tree.ok().map(|node| plant(node, text, "", &mut Some(report)))
}

/// Parses YAML that is the value of the key at `path`; `None` after reporting a mistake there.
pub(super) fn parse_inline(text: &str, path: &str, report: &mut Report) -> Option<Value> {
    let tree = parse(text).map_err(|(_, message)| report.mistake(path, message));
    tree.ok().map(|node| plant(node, text, "", &mut None))
}

fn parse(text: &str) -> Result<Spanned<Node>, (Option<Position>, String)> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = match &error {
            serde_saphyr::Error::MultipleDocuments { .. } => {
                Cow::Borrowed("there is a second document; take the `---` before it away")
            }
            _ => DefaultMessageFormatter.format_message(&error),
        };
        // The parser's message quotes the file, which may hold control characters: a message must stay one line.
        let message = message.replace(char::is_control, " ");
        (error.location().and_then(position_of), format!("is no valid YAML: {message}"))
    })
}

fn position_of(location: Location) -> Option<Position> {
    (location != Location::UNKNOWN).then(|| (location.line(), location.column()))
}

/// Builds the tree to merge, every scalar as the text it was written as, and notes the places of keys and values.
fn plant(node: Spanned<Node>, text: &str, path: &str, report: &mut Option<&mut Report>) -> Value {
    match node.value {
        Node::Null => Value::from(ValueKind::Nil),
        Node::Text(written) => written.into(),
        Node::Plain => {
            let span = node.defined.span();
            let slice = |(start, len)| text.get(usize::try_from(start).ok()?..usize::try_from(start + len).ok()?);
            span.byte_offset().zip(span.byte_len()).and_then(slice).unwrap_or_default().trim().into()
        }
        Node::List(items) => {
            let plant_item = |(index, item): (usize, Spanned<Node>)| {
                let path = format!("{path}[{index}]");
                note(&path, None, &item, report);
                plant(item, text, &path, report)
            };
            items.into_iter().enumerate().map(plant_item).collect::<Vec<_>>().into()
        }
        Node::Map(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                let path = join(path, &key.value);
                if map.contains_key(&key.value) {
                    if let Some(report) = report {
                        let source = report.file().to_owned();
                        report.add(source, position_of(key.referenced), &path, "is given twice".to_owned());
                    }
                    continue;
                }
                note(&path, position_of(key.referenced), &item, report);
                map.insert(key.value, plant(item, text, &path, report));
            }
            map.into()
        }
    }
}

fn note(path: &str, key: Option<Position>, item: &Spanned<Node>, report: &mut Option<&mut Report>) {
    if let Some(report) = report {
        let source = report.file().to_owned();
        report.set_place(path, Place { source, key, value: position_of(item.referenced) });
    }
}

/// A YAML value before types are decided.
enum Node {
    Null,
    /// A number or a boolean: its text is still in the source.
    Plain,
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
