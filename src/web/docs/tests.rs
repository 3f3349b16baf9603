//! Compares the document with the code: its routes, its words, its schemas.

use std::collections::BTreeSet;

use super::*;
use crate::{
    core::{
        reconcile::Action,
        record::{EndReason, Status},
    },
    web::{
        documented::{self, Answered},
        listing,
        routes::{Access, table},
    },
};

fn told() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// The method and path of every operation, and whether it requires a sign-in.
fn operations(document: &Value) -> BTreeSet<(String, String, bool)> {
    let items = entries(&document["paths"]).flat_map(|(path, item)| {
        entries(item).filter(|(method, _)| *method != "parameters").map(move |(method, operation)| {
            (method.to_uppercase(), path.clone(), operation["security"] != Value::Array(vec![]))
        })
    });
    items.collect()
}

fn routes() -> BTreeSet<(String, String, bool)> {
    let line = |access| matches!(access, Access::Enrolling | Access::SignedIn | Access::With(_));
    table().into_iter().map(|route| (route.method.to_string(), route.path.to_owned(), line(route.access))).collect()
}

fn words<'a>(all: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    all.into_iter().map(str::to_owned).collect()
}

fn listed(schema: &Value) -> BTreeSet<String> {
    words(items(schema, "enum").iter().filter_map(Value::as_str))
}

/// Calls `look` with every value in the document and its path.
fn walk(value: &Value, place: &str, look: &mut impl FnMut(&Value, &str)) {
    look(value, place);
    for (key, inner) in entries(value) {
        walk(inner, &format!("{place}/{key}"), look);
    }
    for (nth, inner) in value.as_array().into_iter().flatten().enumerate() {
        walk(inner, &format!("{place}/{nth}"), look);
    }
}

#[test]
fn the_document_lists_the_routes_and_who_may_call_them() {
    assert_eq!(operations(&told()), routes());
}

#[test]
fn the_document_says_of_every_operation_that_its_head_may_be_too_long() {
    let document = told();
    let all = entries(&document["paths"]).flat_map(|(path, item)| entries(item).map(move |one| (path, one)));
    for (path, (method, operation)) in all.filter(|(_, (method, _))| *method != "parameters") {
        assert!(operation["responses"].get("431").is_some(), "{method} {path}");
    }
}

#[test]
fn a_route_that_is_missing_or_too_many_is_noticed() {
    let mut less = told();
    less["paths"].as_object_mut().unwrap().remove("/api/v1/nodes");
    assert_ne!(operations(&less), routes());
    let mut open = told();
    open["paths"]["/api/v1/nodes"]["get"]["security"] = Value::Array(vec![]);
    assert_ne!(operations(&open), routes());
}

#[test]
fn the_document_has_the_version_and_the_words_of_the_code() {
    let document = told();
    let schemas = &document["components"]["schemas"];
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(listed(&schemas["Status"]), words(Status::ALL.iter().map(|word| word.as_str())));
    assert_eq!(listed(&schemas["EndReason"]), words(EndReason::ALL.iter().map(|word| word.as_str())));
    assert!(listed(&schemas["Action"]).contains(Action::AlarmUnrecorded.as_str()));
}

#[test]
fn the_query_of_a_listing_is_as_documented() {
    let document = told();
    let parameters = items(&document["paths"]["/api/v1/sessions"]["get"], "parameters");
    let refusal = listing::parse("colour=red").unwrap_err().detail().to_owned();
    let (_, keys) = refusal.split_once("Allowed: ").unwrap();
    let (keys, _) = keys.split_once(" (").unwrap();
    assert_eq!(words(parameters.iter().map(|parameter| text(parameter, "name"))), words(keys.split(", ")));
    let schema = |name: &str| &parameters.iter().find(|parameter| parameter["name"] == name).unwrap()["schema"];
    for sort in listed(schema("sort")) {
        assert!(listing::parse(&format!("sort={sort}")).is_ok(), "{sort}");
    }
    let (limit, most) = (schema("limit"), schema("limit")["maximum"].as_u64().unwrap());
    assert_eq!(limit["default"], listing::parse("").unwrap().limit);
    assert!(listing::parse(&format!("limit={most}")).is_ok());
    assert!(listing::parse(&format!("limit={}", most + 1)).is_err());
}

#[test]
fn every_reference_leads_somewhere_and_every_object_is_closed() {
    let document = told();
    let mut references = 0;
    walk(&document, "", &mut |value, place| {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            references += 1;
            assert!(
                target.strip_prefix('#').and_then(|target| document.pointer(target)).is_some(),
                "{place}: {target}"
            );
        }
        let is_schema = value.get("type").is_some_and(|kind| kind == "object") && value.get("properties").is_some();
        // The provider's standard defines what it may send, and extends it (Back-Channel Logout §2.5).
        let is_open = place.ends_with("/LogoutByProvider");
        assert!(!is_schema || value["additionalProperties"] == is_open, "{place} takes any field");
    });
    assert!(references > 50, "{references} references");
}

#[test]
fn every_schema_is_used() {
    let document = told();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |value, _| used.extend(value.get("$ref").and_then(Value::as_str).map(str::to_owned)));
    for kind in ["schemas", "responses", "parameters"] {
        for (name, _) in entries(&document["components"][kind]) {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is used nowhere");
        }
    }
}

#[test]
fn an_answer_that_is_not_documented_is_noticed() {
    let me = r#"{"user":"ada","role":"admin","rights":["open"],"local":true,"demo":false,"adhoc":true,
        "second_factor":{"on":true,"required":true,"recovery_codes":1},"version":"1"}"#;
    let check = |status, kind, body: &str| {
        let answered =
            Answered { method: "GET", path: "/api/v1/me?x=1", status, kind: Some(kind), body: body.as_bytes() };
        documented::check(&answered)
    };
    let json = "application/json";
    assert_eq!(check(200, json, me), Ok(()));
    for (status, kind, body, words) in [
        (200, json, me.replace(r#""1"}"#, r#""1","extra":1}"#), "body.extra is not documented"),
        (200, json, me.replace(r#""demo":false,"#, ""), "breaks required"),
        (200, json, me.replace("false", "null"), "body.demo"),
        (200, json, me.replace(r#""role":"admin""#, r#""role":"root""#), "body.role"),
        (200, "text/plain", me.to_owned(), "text/plain"),
        (418, json, me.to_owned(), "the status is not documented"),
    ] {
        let said = check(status, kind, &body).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn the_page_shows_every_operation_and_loads_nothing_from_elsewhere() {
    let html = Page { document: told() }.html();
    for (method, path, _) in operations(&told()) {
        assert!(html.contains(&format!("<h3><code>{method} {path}</code></h3>")), "{method} {path}");
    }
    for (name, _) in entries(&told()["components"]["schemas"]) {
        assert!(html.contains(&format!("id=\"schema-{name}\"")), "{name}");
    }
    for forbidden in ["http://", "https://", "<script", "<style", "style=", "src=", "onclick"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let links = html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    for link in links {
        assert!(html.contains(&format!("id=\"{link}\"")), "#{link} leads nowhere");
    }
}

#[test]
fn what_the_document_says_is_text_on_the_page() {
    let mut document = told();
    document["info"]["description"] = Value::from("<b> & `<i>`");
    document["components"]["schemas"]["Status"]["pattern"] = Value::from(r"\u0000<");
    let html = Page { document }.html();
    assert!(html.contains("<p>&lt;b&gt; &amp; <code>&lt;i&gt;</code></p>"));
    assert!(html.contains(r"like <code>\u0000&lt;</code>"), "a text is shown as it is, without JSON's escapes");
}
