//! `GET /api/v1/audit`: the audit log of this node, newest first; and the entries that handlers of sessions write. Does
//! not know any store.

use std::{net::IpAddr, sync::Arc};

use actix_web::{HttpRequest, Responder, web};
use serde::Serialize;

use super::{
    auth::Caller,
    client,
    error::Problem,
    listing::{self, DEFAULT_LIMIT},
    state::State,
    view::Rfc3339,
};
use crate::{
    actor::gateway::{Found, Gateway, GatewayError},
    core::{
        audit::{Action, Deed, Entry, Outcome},
        record::Record,
    },
    store::audit::AuditQuery,
};

const KEYS: &str = "actor, action, since, until, limit, cursor";

#[derive(Serialize)]
struct PageView<'a> {
    items: Vec<EntryView<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct EntryView<'a> {
    seq: u64,
    at: Rfc3339,
    actor: &'a str,
    client_ip: Option<IpAddr>,
    action: Action,
    subject: &'a str,
    outcome: Outcome,
    detail: &'a str,
}

impl<'a> From<&'a Entry> for EntryView<'a> {
    fn from(Entry { sequence, at, deed }: &'a Entry) -> Self {
        Self {
            seq: *sequence,
            at: Rfc3339(*at),
            actor: &deed.actor,
            client_ip: deed.client_ip,
            action: deed.action,
            subject: &deed.subject,
            outcome: deed.outcome,
            detail: &deed.detail,
        }
    }
}

/// One entry, as every listing shows it.
pub fn shown(entry: &Entry) -> serde_json::Value {
    // Strings and numbers only: serialising them cannot fail.
    serde_json::to_value(EntryView::from(entry)).unwrap_or_default()
}

/// Answers with one page of the log.
pub async fn audit(request: HttpRequest, state: web::Data<State>, _: Caller) -> Result<impl Responder, Problem> {
    let page = state.gateway.audit().list(parse(request.query_string())?).await?;
    let items: Vec<EntryView<'_>> = page.entries.iter().map(EntryView::from).collect();
    let view = PageView { items, next_cursor: page.next.map(|next| listing::spell_cursor(&format!("audit {next}"))) };
    Ok(web::Json(serde_json::to_value(view).map_err(|_| Problem::internal())?))
}

/// Reads a query string. Anything unknown, malformed or given twice is a 400 that names the key and what is allowed.
pub fn parse(query: &str) -> Result<AuditQuery, Problem> {
    let mut asked = AuditQuery { limit: DEFAULT_LIMIT, ..AuditQuery::default() };
    for (key, value) in &listing::pairs(query, "")? {
        match key.as_str() {
            "actor" => asked.actor = Some(listing::text(key, value)?),
            "action" => asked.action = Some(listing::word(key, value, Action::ALL, Action::as_str)?),
            "since" => asked.since = Some(listing::moment(key, value)?),
            "until" => asked.until = Some(listing::moment(key, value)?),
            "limit" => asked.limit = listing::limit(key, value)?,
            "cursor" => {
                let plain = listing::plain_cursor(value)?;
                let before = plain.strip_prefix("audit ").and_then(|before| before.parse().ok());
                asked.before = Some(before.ok_or_else(listing::not_ours)?);
            }
            _ => return Err(listing::unknown(key, KEYS)),
        }
    }
    Ok(asked)
}

/// The sender of a request, as the audit log names them.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The signed-in user.
    pub user: Arc<str>,
    /// The address the request came from.
    pub client_ip: IpAddr,
}

impl Visitor {
    /// Returns the sender of `request`.
    pub fn of(request: &HttpRequest, state: &State, caller: &Caller) -> Self {
        Self { user: caller.user.clone(), client_ip: client::client_ip(request, &state.settings) }
    }

    /// Returns an action that they took.
    pub fn did(&self, action: Action, subject: impl ToString, detail: &str) -> Deed {
        Deed::done(action, &self.user, self.client_ip, subject, detail)
    }

    /// Records the outcome of their request for a session on `target`; refusals are recorded within limits.
    pub fn opens(&self, state: &State, target: &str, opened: &Result<Record, GatewayError>) {
        let action = Action::SessionOpen;
        state.gateway.audit().note(match opened {
            Ok(record) => self.did(action, target, &format!("Opened session {}.", record.id)),
            Err(error) => {
                let Some(untold) = state.refused_opens.tells(state.now(), &self.user) else { return };
                let detail = match untold {
                    0 => error.to_string(),
                    more => format!("{error} {more} such refusals before this one are not told."),
                };
                Deed::refused(action, &self.user, self.client_ip, target, &detail)
            }
        });
    }

    /// Records that they tested a target, and how far the test got.
    pub fn tries_out(&self, gateway: &Gateway, target: &str, found: &Result<Vec<Found>, GatewayError>) {
        let action = Action::TargetTest;
        gateway.audit().note(match found {
            Ok(found) => match found.iter().find(|found| found.failure.is_some()) {
                None => self.did(action, target, "All steps passed."),
                Some(Found { hop, step, .. }) => {
                    let at = hop.as_ref().map(|hop| format!(" at the jump host {hop}")).unwrap_or_default();
                    self.did(action, target, &format!("Ended at the step {}{at}.", step.as_str()))
                }
            },
            Err(error) => Deed::refused(action, &self.user, self.client_ip, target, &error.to_string()),
        });
    }

    /// Records that they looked at another user's session, once an hour: a page that is loaded again looks on, and each
    /// part of a recording is a request.
    pub fn looks_at(&self, state: &State, action: Action, seen: &Record) {
        if state.looks.is_news(state.now(), (self.user.clone(), seen.id, action)) {
            let detail = format!("The session of {} on {}.", seen.username, seen.target);
            state.gateway.audit().note(self.did(action, seen.id, &detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;

    use super::*;
    use crate::{
        core::record::UtcMicros,
        web::fixture::{START, caller, record, settings, state_with},
    };

    fn refusal(query: &str) -> String {
        parse(query).expect_err(query).detail().to_owned()
    }

    #[test]
    fn every_key_reaches_the_query() {
        let query = "actor=ada&action=session.open&since=2026-01-02T03:04:05.678901Z\
                     &until=2026-01-02T05:04:05.678901%2B01:00&limit=500";
        let cursor = listing::spell_cursor("audit 7");
        let expected = AuditQuery {
            actor: Some("ada".into()),
            action: Some(Action::SessionOpen),
            since: Some(START),
            until: Some(UtcMicros(START.0 + 3_600_000_000)),
            limit: 500,
            before: Some(7),
        };
        assert_eq!(parse(&format!("{query}&cursor={cursor}")).unwrap(), expected);
        assert_eq!(parse("").unwrap(), AuditQuery { limit: 50, ..AuditQuery::default() });
    }

    #[test]
    fn a_refusal_names_the_key_and_what_is_allowed() {
        for (query, words) in [
            ("action=sign", "sign_in, sign_out, origin.refused, session.open"),
            ("action=sign", "webhook.give_up, audit.lost"),
            ("actor=", "1 to 512"),
            ("since=yesterday", "RFC 3339"),
            ("limit=501", "1 to 500"),
            ("user=ada", "actor, action, since"),
            ("actor=a&actor=b", "twice"),
        ] {
            let detail = refusal(query);
            assert!(detail.contains(words) && detail.contains(query.split('=').next().unwrap()), "{query}: {detail}");
        }
        let of_sessions = listing::spell_cursor("0 1 019b7cc2-3f4e-7000-8000-000000000001");
        for cursor in [of_sessions, listing::spell_cursor("audit -1"), "audit 7".into()] {
            assert!(refusal(&format!("cursor={cursor}")).contains("not one of ours"));
        }
    }

    #[actix_rt::test]
    async fn who_is_refused_without_end_does_not_fill_the_audit_log() {
        let state = state_with(settings());
        let visitor = |user: &str| Visitor { user: user.into(), client_ip: [192, 0, 2, 7].into() };
        for _ in 0..1_000 {
            visitor("bob").opens(&state, "web-1", &Err(GatewayError::TooManyOfUser { max: 50 }));
        }
        state.gateway.audit().record(visitor("ada").did(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
        let page = state.gateway.audit().list(parse("").unwrap()).await.unwrap();
        assert_eq!(page.entries.len(), 11);
    }

    #[actix_rt::test]
    async fn what_somebody_sees_and_opens_is_noted_beside_what_is_recorded() {
        let state = state_with(settings());
        let visitor = |user: &str| Visitor { user: user.into(), client_ip: [192, 0, 2, 7].into() };
        let (gateway, seen) = (&state.gateway, record());
        for _ in 0..100 {
            visitor("eve").looks_at(&state, Action::SessionAttach, &seen);
        }
        visitor("bob").opens(&state, "web-1", &Err(GatewayError::NotReady));
        gateway.audit().record(visitor("bob").did(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
        let page = gateway.audit().list(parse("").unwrap()).await.unwrap();
        let told: Vec<_> = page.entries.iter().rev().map(|entry| (&*entry.deed.actor, entry.deed.outcome)).collect();
        assert_eq!(told, [("eve", Outcome::Ok), ("bob", Outcome::Refused), ("bob", Outcome::Ok)]);
        assert_eq!(page.entries[2].deed.subject, seen.id.to_string());

        let request = actix_web::test::TestRequest::with_uri("/api/v1/audit?limit=2").to_http_request();
        let (caller, _) = caller(&state, "auditor");
        let answer = audit(request.clone(), state.clone(), caller).await.unwrap().respond_to(&request);
        let body = answer.into_body().try_into_bytes().unwrap_or_default();
        let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let next = page["next_cursor"].as_str().unwrap();
        assert_eq!(
            (page["items"][0]["seq"].as_u64(), parse(&format!("cursor={next}")).unwrap().before),
            (Some(3), Some(2))
        );
    }
}
