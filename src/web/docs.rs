//! `GET /api/openapi.json` and `GET /api/docs`: the API for programs and for people. Serves the one committed document;
//! the page is rendered from it once and loads nothing from elsewhere. Does not know routes.

use std::{fmt::Write as _, sync::LazyLock};

use actix_web::{
    HttpResponse,
    http::header::{ContentType, HeaderValue},
    web::Bytes,
};
use serde_json::{Map, Value};

use super::{auth::Caller, error::Problem};

/// Written by hand, and compared with the routes and their answers by tests: a macro could not describe a field's
/// meaning.
const DOCUMENT: &str = include_str!("../../docs/openapi.json");

static PAGE: LazyLock<Option<Bytes>> =
    LazyLock::new(|| serde_json::from_str(DOCUMENT).ok().map(|document| Page { document }.html().into()));

/// Answers with the document.
pub async fn document(_: Caller) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(DOCUMENT)
}

/// Answers with the document as a page.
pub async fn page(_: Caller) -> Result<HttpResponse, Problem> {
    let page = PAGE.clone().ok_or_else(Problem::internal)?;
    Ok(HttpResponse::Ok().content_type(HeaderValue::from_static("text/html; charset=utf-8")).body(page))
}

/// The page rendered from a document: a part missing in one is missing in the other.
struct Page {
    document: Value,
}

impl Page {
    fn html(&self) -> String {
        let info = field(&self.document, "info");
        let title = escaped(text(info, "title"));
        let mut html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}: HTTP interface</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/docs.css\"></head>\
             <body><header><h1>{title} <small>{}</small></h1>{}<p><a href=\"/api/openapi.json\">OpenAPI {}</a></p></header>",
            escaped(text(info, "version")),
            prose(text(info, "description")),
            escaped(text(&self.document, "openapi")),
        );
        let sections = items(&self.document, "tags").iter().map(|tag| text(tag, "name"));
        html.push_str("<nav><ul>");
        for tag in sections.clone() {
            self.contents(&mut html, tag);
        }
        html.push_str("<li><a href=\"#schemas\">Schemas</a></li></ul></nav><main>");
        self.sign_in(&mut html);
        for tag in sections {
            push(&mut html, format_args!("<h2>{}</h2>", escaped(tag)));
            for (path, method, operation) in self.operations(tag) {
                self.operation(&mut html, path, method, operation);
            }
        }
        html.push_str("<h2 id=\"schemas\">Schemas</h2>");
        for (name, schema) in entries(field(field(&self.document, "components"), "schemas")) {
            let name = escaped(name);
            push(&mut html, format_args!("<section id=\"schema-{name}\"><h3>{name}</h3>"));
            push(&mut html, format_args!("{}{}</section>", prose(text(schema, "description")), self.schema(schema)));
        }
        html.push_str("</main></body></html>\n");
        html
    }

    /// The operations of a section: path, method, operation.
    fn operations<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
        let all = entries(field(&self.document, "paths")).flat_map(|(path, item)| {
            entries(item).map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        });
        all.filter(move |(_, _, operation)| items(operation, "tags").iter().any(|name| name == tag))
    }

    fn contents(&self, html: &mut String, tag: &str) {
        push(html, format_args!("<li>{}<ul>", escaped(tag)));
        for (path, method, operation) in self.operations(tag) {
            let (id, path) = (escaped(text(operation, "operationId")), escaped(path));
            let method = method.to_ascii_uppercase();
            push(html, format_args!("<li><a href=\"#{id}\"><code>{method} {path}</code></a></li>"));
        }
        html.push_str("</ul></li>");
    }

    fn sign_in(&self, html: &mut String) {
        html.push_str("<h2>Who may call</h2><dl>");
        for (name, scheme) in entries(field(field(&self.document, "components"), "securitySchemes")) {
            let (name, words) = (escaped(name), prose(text(scheme, "description")));
            push(html, format_args!("<dt><code>{name}</code></dt><dd>{words}</dd>"));
        }
        html.push_str("</dl>");
    }

    fn operation(&self, html: &mut String, path: &str, method: &str, operation: &Value) {
        let (id, summary) = (escaped(text(operation, "operationId")), escaped(text(operation, "summary")));
        let (method, shown) = (method.to_ascii_uppercase(), escaped(path));
        push(html, format_args!("<section id=\"{id}\"><h3><code>{method} {shown}</code></h3><p>{summary}.</p>"));
        html.push_str(&prose(text(operation, "description")));
        if operation.get("security").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            html.push_str("<p>Asks for no sign-in.</p>");
        }
        let shared = field(field(field(&self.document, "paths"), path), "parameters");
        let shared = shared.as_array().map_or(&[][..], Vec::as_slice);
        let parameters: Vec<_> = shared.iter().chain(items(operation, "parameters")).collect();
        if !parameters.is_empty() {
            html.push_str("<table><caption>Parameters</caption><tr><th>name<th>in<th>value<th>meaning</tr>");
        }
        for parameter in &parameters {
            self.parameter(html, self.resolved(parameter));
        }
        if !parameters.is_empty() {
            html.push_str("</table>");
        }
        if let Some(body) = operation.get("requestBody") {
            push(html, format_args!("<h4>Body</h4>{}", self.content(body)));
        }
        html.push_str("<table><caption>Answers</caption><tr><th>status<th>what<th>content</tr>");
        for (status, response) in entries(field(operation, "responses")) {
            let response = self.resolved(response);
            let (words, content) = (prose(text(response, "description")), self.content(response));
            push(html, format_args!("<tr><td>{}<td>{words}", escaped(status)));
            push(html, format_args!("{}<td>{content}</tr>", self.headers(response)));
        }
        html.push_str("</table></section>");
    }

    fn parameter(&self, html: &mut String, parameter: &Value) {
        let required = if parameter.get("required") == Some(&Value::Bool(true)) { " (required)" } else { "" };
        let (name, place) = (escaped(text(parameter, "name")), escaped(text(parameter, "in")));
        push(html, format_args!("<tr><td><code>{name}</code>{required}<td>{place}<td>"));
        html.push_str(&self.schema(field(parameter, "schema")));
        push(html, format_args!("<td>{}</tr>", prose(text(parameter, "description"))));
    }

    fn headers(&self, response: &Value) -> String {
        let header = |(name, header): (&String, &Value)| {
            format!("<p><code>{}</code> {}</p>", escaped(name), marked(text(self.resolved(header), "description")))
        };
        entries(field(response, "headers")).map(header).collect()
    }

    fn content(&self, holder: &Value) -> String {
        let kind = |(kind, content): (&String, &Value)| {
            format!("<p><code>{}</code></p>{}", escaped(kind), self.schema(field(content, "schema")))
        };
        entries(field(holder, "content")).map(kind).collect()
    }

    /// Follows a reference, if it is one.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let place = value.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#'));
        place.and_then(|place| self.document.pointer(place)).unwrap_or(value)
    }

    /// Describes a schema in words; an object as a table of its fields.
    fn schema(&self, schema: &Value) -> String {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|place| place.rsplit('/').next()) {
            let name = escaped(name);
            return format!("<a href=\"#schema-{name}\">{name}</a>");
        }
        for key in ["anyOf", "oneOf"] {
            if schema.get(key).is_some() {
                let choices: Vec<_> = items(schema, key).iter().map(|choice| self.schema(choice)).collect();
                return choices.join(" or ");
            }
        }
        if let Some(item) = schema.get("items") {
            return format!("list of {}", self.schema(item));
        }
        if schema.get("properties").is_some() {
            return self.fields(schema);
        }
        limits(schema)
    }

    fn fields(&self, schema: &Value) -> String {
        let mut html = String::from("<table><tr><th>field<th>value<th>meaning</tr>");
        for (name, value) in entries(field(schema, "properties")) {
            let required = items(schema, "required").iter().any(|required| required == name);
            let optional = if required { "" } else { " (may be left out)" };
            let (name, words) = (escaped(name), marked(text(value, "description")));
            push(&mut html, format_args!("<tr><td><code>{name}</code>{optional}<td>{}", self.schema(value)));
            push(&mut html, format_args!("<td>{words}</tr>"));
        }
        html.push_str("</table>");
        html
    }
}

/// Describes a plain value: type, words, range and default.
fn limits(schema: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let code = |value: &Value| format!("<code>{}</code>", escaped(&plain(value)));
    let mut parts = Vec::new();
    match schema.get("type") {
        Some(Value::String(kind)) => parts.push(escaped(kind)),
        Some(Value::Array(kinds)) => {
            parts.push(kinds.iter().filter_map(Value::as_str).map(escaped).collect::<Vec<_>>().join(" or "));
        }
        _ => {}
    }
    parts.extend(schema.get("const").map(code));
    if schema.get("enum").is_some() {
        parts.push(items(schema, "enum").iter().map(code).collect::<Vec<_>>().join(" "));
    }
    for (key, words) in [
        ("format", "as"),
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "characters from"),
        ("maxLength", "characters to"),
        ("pattern", "like"),
        ("default", "left out:"),
    ] {
        parts.extend(schema.get(key).map(|value| format!("{words} {}", code(value))));
    }
    parts.join(", ")
}

/// Renders paragraphs, with code between backticks.
fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>", marked(paragraph))).collect()
}

fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(nth, part)| if nth % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn push(html: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = html.write_fmt(words);
}

fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    field(value, key).as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    field(value, key).as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests;
