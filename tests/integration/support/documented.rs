//! Checks an answer against `docs/openapi.json`: its status, its media type, and each field of its JSON. Implements the
//! part of JSON Schema that the document uses for answers, and reports anything beyond it. Sends no request.

use std::sync::LazyLock;

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap());

/// An answer and its request.
pub struct Answered<'a> {
    /// The method, as `GET`.
    pub method: &'a str,
    /// The path, with or without its query.
    pub path: &'a str,
    pub status: u16,
    pub kind: Option<&'a str>,
    pub body: &'a [u8],
}

/// Returns how an answer differs from the document. Paths that are not in it are pages, which are not checked.
pub fn check(answered: &Answered<'_>) -> Result<(), String> {
    let path = answered.path.split('?').next().unwrap_or_default();
    let Some((template, item)) = find(path) else { return Ok(()) };
    let place = format!("{} {template} {}", answered.method, answered.status);
    let Some(operation) = item.get(answered.method.to_lowercase()) else {
        // A caller without access receives that status first.
        let refused = [400, 401, 403, 405, 429].contains(&answered.status);
        return if refused { Ok(()) } else { Err(format!("{place}: the method is not documented")) };
    };
    let Some(response) = operation["responses"].get(answered.status.to_string()) else {
        return Err(format!("{place}: the status is not documented"));
    };
    let content = resolved(response)?.get("content").and_then(Value::as_object);
    let Some(content) = content else {
        let empty = answered.body.is_empty();
        return if empty { Ok(()) } else { Err(format!("{place}: a body, where none is documented")) };
    };
    let kind = answered.kind.unwrap_or_default();
    let Some(media) = content.get(kind) else { return Err(format!("{place}: {kind:?} is not documented")) };
    if kind.ends_with("json") {
        let body = serde_json::from_slice(answered.body).map_err(|error| format!("{place}: {error}"))?;
        validate(&media["schema"], &body, "body").map_err(|error| format!("{place}: {error}"))?;
    }
    Ok(())
}

/// Returns the document's entry for a path; one without a placeholder comes first.
fn find(path: &str) -> Option<(&'static str, &'static Value)> {
    let fits = |template: &str| {
        let (mut told, mut asked) = (template.split('/'), path.split('/'));
        loop {
            match (told.next(), asked.next()) {
                (None, None) => return true,
                (Some(told), Some(asked)) if told == asked || told.starts_with('{') && !asked.is_empty() => {}
                _ => return false,
            }
        }
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let found = paths.iter().filter(|(template, _)| fits(template));
    found.min_by_key(|(template, _)| template.contains('{')).map(|(template, item)| (template.as_str(), item))
}

fn resolved(value: &'static Value) -> Result<&'static Value, String> {
    let Some(place) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
    DOCUMENT.pointer(&place[1..]).ok_or_else(|| format!("{place} leads nowhere"))
}

/// Returns how a value differs from its schema.
pub fn validate(schema: &'static Value, value: &Value, place: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().ok_or_else(|| format!("{place}: the schema is no object"))? {
        let holds = match keyword.as_str() {
            "$ref" => {
                validate(resolved(schema)?, value, place)?;
                true
            }
            "type" => is_of_type(rule, value),
            "const" => rule == value,
            "enum" => rule.as_array().is_some_and(|words| words.contains(value)),
            "anyOf" => rule.as_array().unwrap().iter().any(|choice| validate(choice, value, place).is_ok()),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
            "format" => value.as_str().is_none_or(|text| is_in_format(rule, text)),
            "items" => {
                for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(rule, item, &format!("{place}[{nth}]"))?;
                }
                true
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |inner| validate(rule, inner, &format!("{place}.{name}")))?;
                }
                true
            }
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => others_fit(schema, rule, value, place)?,
            "propertyNames" => value
                .as_object()
                .into_iter()
                .flatten()
                .try_for_each(|(name, _)| validate(rule, &Value::String(name.clone()), &format!("{place}.{name}")))
                .map(|()| true)?,
            "description" => true,
            _ => return Err(format!("{place}: {keyword} is not understood here; say it otherwise, or teach me")),
        };
        if !holds {
            return Err(format!("{place}: {value} breaks {keyword}: {rule}"));
        }
    }
    Ok(())
}

fn others_fit(schema: &'static Value, rule: &'static Value, value: &Value, place: &str) -> Result<bool, String> {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let known = schema.get("properties").is_some_and(|known| known.get(name).is_some());
        match rule {
            _ if known => {}
            Value::Bool(false) => return Err(format!("{place}.{name} is not documented")),
            rule => validate(rule, inner, &format!("{place}.{name}"))?,
        }
    }
    Ok(true)
}

fn is_of_type(rule: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    rule.as_array().map_or_else(|| is(rule), |kinds| kinds.iter().any(is))
}

/// Whether a text has the gateway's spelling, one of those that its format allows.
fn is_in_format(rule: &Value, text: &str) -> bool {
    match rule.as_str().unwrap() {
        "uuid" => text.len() == 36 && text.parse::<uuid::Uuid>().is_ok(),
        "date-time" => text.len() == 27 && text.ends_with('Z') && OffsetDateTime::parse(text, &Rfc3339).is_ok(),
        _ => false,
    }
}
