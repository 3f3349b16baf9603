//! Parses the query of a listing: filters, order, cursor, and reports errors in them. Does not know any store.

use std::{collections::BTreeSet, str::FromStr};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use sha2::{Digest as _, Sha256};

use super::error::{Problem, quoted};
use crate::{
    core::{
        record::{EndReason, NodeId, SessionId, Status, UtcMicros},
        rfc3339::Rfc3339,
    },
    store::{LONGEST_PAGE, ListQuery, Position, Sort, SortKey},
};

/// Default number of rows of a page.
pub(super) const DEFAULT_LIMIT: u32 = 50;
/// Characters of the longest stored name: a session's target with its jump hosts.
const MAX_TEXT: usize = 512;
const KEYS: &str =
    "status, user, target, node, client_ip, reason, since, until, q, sort, limit, cursor (status may be repeated)";

/// The supported orders; the first is the default. A cursor names its order by its index here: append only.
const SORTS: [(&str, Sort); 6] = [
    ("-start_time", Sort { by: SortKey::StartTime, ascending: false }),
    ("start_time", Sort { by: SortKey::StartTime, ascending: true }),
    ("last_seen_at", Sort { by: SortKey::LastSeenAt, ascending: true }),
    ("-last_seen_at", Sort { by: SortKey::LastSeenAt, ascending: false }),
    ("end_time", Sort { by: SortKey::EndTime, ascending: true }),
    ("-end_time", Sort { by: SortKey::EndTime, ascending: false }),
];

/// Reads a query string. Anything unknown, malformed or given twice is a 400 that names the key and what is allowed.
pub fn parse(query: &str) -> Result<ListQuery, Problem> {
    let pairs = pairs(query, "status")?;
    let mut list = ListQuery { limit: DEFAULT_LIMIT, ..ListQuery::default() };
    let mut cursor = None;
    for (key, value) in &pairs {
        match key.as_str() {
            "status" => list.statuses.push(word(key, value, Status::ALL, Status::as_str)?),
            "reason" => list.reason = Some(word(key, value, EndReason::ALL, EndReason::as_str)?),
            "user" => list.user = Some(text(key, value)?),
            "target" => list.target = Some(text(key, value)?),
            "node" => list.node = Some(NodeId(text(key, value)?)),
            "q" => list.text = Some(text(key, value)?),
            "client_ip" => list.client_ip = Some(parsed(key, value, "an IPv4 or IPv6 address")?),
            "since" => list.since = Some(moment(key, value)?),
            "until" => list.until = Some(moment(key, value)?),
            "sort" => list.sort = sort(key, value)?,
            "limit" => list.limit = limit(key, value)?,
            "cursor" => cursor = Some(value),
            _ => return Err(unknown(key, KEYS)),
        }
    }
    list.after = cursor.map(|cursor| read_cursor(cursor, list.sort)).transpose()?;
    Ok(list)
}

/// Reads the keys and values of a query string; only `repeated` may occur more than once.
pub(super) fn pairs(query: &str, repeated: &str) -> Result<Vec<(String, String)>, Problem> {
    let unreadable = || {
        Problem::bad_request("The query cannot be read: behind each % stand two hexadecimal digits of a text in UTF-8.")
    };
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query).ok().filter(|_| is_text(query));
    let pairs = pairs.ok_or_else(unreadable)?.into_inner();
    let mut seen = BTreeSet::new();
    for (key, _) in &pairs {
        if key != repeated && !seen.insert(key) {
            return Err(Problem::bad_request(format!("The query key {} stands twice.", quoted(key))));
        }
    }
    Ok(pairs)
}

/// Whether every `%` begins an escape, and all of them spell UTF-8. The decoder of URLs takes anything: it keeps what
/// is no escape, and replaces what is no text.
fn is_text(query: &str) -> bool {
    let mut parts = query.split('%');
    let mut spelled = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let Some((digits, rest)) = part.split_at_checked(2) else { return false };
        let Ok(byte) = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()) else { return false };
        spelled.extend(byte);
        spelled.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(spelled).is_ok()
}

/// 400: the key is none of `allowed`.
pub(super) fn unknown(key: &str, allowed: &str) -> Problem {
    Problem::bad_request(format!("Unknown query key {}. Allowed: {allowed}.", quoted(key)))
}

/// Encodes the position where the next page of a listing in this order starts, for `cursor`.
pub fn cursor(sort: Sort, next: Position) -> String {
    let place = SORTS.iter().position(|(_, known)| *known == sort).unwrap_or_default();
    spell_cursor(&format!("{place} {} {}", next.key, next.id))
}

/// Encodes a position, given in words, with a checksum.
pub(super) fn spell_cursor(plain: &str) -> String {
    BASE64URL_NOPAD.encode(format!("{plain} {}", check(plain)).as_bytes())
}

/// Decodes the result of [`spell_cursor`].
pub(super) fn plain_cursor(cursor: &str) -> Result<String, Problem> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| not_ours())?;
    let text = String::from_utf8(bytes).map_err(|_| not_ours())?;
    let (plain, told) = text.rsplit_once(' ').ok_or_else(not_ours)?;
    if told != check(plain) {
        return Err(not_ours());
    }
    Ok(plain.to_owned())
}

/// 400: the cursor was not issued by a gateway.
pub(super) fn not_ours() -> Problem {
    Problem::bad_request("The cursor is not one of ours. Start again without it.")
}

fn read_cursor(cursor: &str, sort: Sort) -> Result<Position, Problem> {
    let plain = plain_cursor(cursor)?;
    let mut parts = plain.split(' ');
    let mut part = || parts.next().ok_or_else(not_ours);
    let (place, key, id) = (part()?, part()?, part()?);
    let place: usize = place.parse().map_err(|_| not_ours())?;
    if SORTS.get(place).is_none_or(|(_, known)| *known != sort) {
        return Err(Problem::bad_request(
            "The cursor belongs to another sort. Keep the sort, or start without cursor.",
        ));
    }
    Ok(Position { key: key.parse().map_err(|_| not_ours())?, id: id.parse::<SessionId>().map_err(|_| not_ours())? })
}

/// Returns a checksum that detects a truncated or altered cursor. Not a signature: a position reveals nothing that a
/// filter would not.
fn check(plain: &str) -> String {
    Sha256::digest(plain).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn wrong(key: &str, value: &str, allowed: &str) -> Problem {
    Problem::bad_request(format!("{key}={} is not allowed. Allowed: {allowed}.", quoted(value)))
}

pub(super) fn word<T: Copy + FromStr>(
    key: &str,
    value: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<T, Problem> {
    let words = || all.iter().map(|word| as_str(*word)).collect::<Vec<_>>().join(", ");
    value.parse().map_err(|_| wrong(key, value, &words()))
}

pub(super) fn text(key: &str, value: &str) -> Result<String, Problem> {
    let fits = (1..=MAX_TEXT).contains(&value.chars().count()) && !value.chars().any(char::is_control);
    let allowed = || format!("1 to {MAX_TEXT} characters, no control characters");
    if fits { Ok(value.to_owned()) } else { Err(wrong(key, value, &allowed())) }
}

fn parsed<T: FromStr>(key: &str, value: &str, allowed: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| wrong(key, value, allowed))
}

pub(super) fn moment(key: &str, value: &str) -> Result<UtcMicros, Problem> {
    let allowed = "a time of RFC 3339, as 2026-01-02T03:04:05Z (a + must be sent as %2B)";
    parsed::<Rfc3339>(key, value, allowed).map(|moment| moment.0)
}

fn sort(key: &str, value: &str) -> Result<Sort, Problem> {
    let found = SORTS.iter().find(|(name, _)| *name == value).map(|(_, sort)| *sort);
    found.ok_or_else(|| wrong(key, value, &SORTS.map(|(name, _)| name).join(", ")))
}

pub(super) fn limit(key: &str, value: &str) -> Result<u32, Problem> {
    let allowed = format!("1 to {LONGEST_PAGE}");
    let limit: u32 = parsed(key, value, &allowed)?;
    // In one spelling: without a sign, and without zeros before it.
    let is_plain = limit.to_string() == value;
    if is_plain && (1..=LONGEST_PAGE).contains(&limit) { Ok(limit) } else { Err(wrong(key, value, &allowed)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::fixture::{START, record};

    fn refusal(query: &str) -> String {
        parse(query).expect_err(query).detail().to_owned()
    }

    #[test]
    fn an_empty_query_lists_the_newest_fifty() {
        assert_eq!(parse("").unwrap(), ListQuery { limit: 50, ..ListQuery::default() });
    }

    #[test]
    fn every_key_reaches_the_query() {
        let query = "status=active&status=lost&user=ada&target=web%201&node=n&client_ip=192.0.2.7&reason=node_lost\
                     &since=2026-01-02T03:04:05.678901Z&until=2026-01-02T05:04:05.678901%2B01:00&q=a%25_b&sort=end_time&limit=500";
        let expected = ListQuery {
            statuses: vec![Status::Active, Status::Lost],
            user: Some("ada".to_owned()),
            target: Some("web 1".to_owned()),
            node: Some(NodeId("n".to_owned())),
            client_ip: Some("192.0.2.7".parse().unwrap()),
            reason: Some(EndReason::NodeLost),
            since: Some(START),
            until: Some(UtcMicros(START.0 + 3_600_000_000)),
            text: Some("a%_b".to_owned()),
            sort: Sort { by: SortKey::EndTime, ascending: true },
            limit: 500,
            after: None,
        };
        assert_eq!(parse(query).unwrap(), expected);
    }

    #[test]
    fn the_longest_name_of_a_target_is_found() {
        let called = |length| format!("target={}", "ö".repeat(length));
        assert_eq!(parse(&called(512)).unwrap().target, Some("ö".repeat(512)), "as `Opening::over` lets it be");
        assert!(refusal(&called(513)).contains("1 to 512"));
    }

    #[test]
    fn a_refusal_names_the_key_and_what_is_allowed() {
        for (query, words) in [
            ("status=open", "connecting, active, detached, lost, closed"),
            ("reason=bored", "exited, user_closed"),
            ("client_ip=localhost", "IPv4"),
            ("since=yesterday", "RFC 3339"),
            ("until=2026-01-02T03:04:05+01:00", "%2B"),
            ("sort=username", "-start_time, start_time"),
            ("sort=start_time;drop", "-start_time"),
            ("limit=0", "1 to 500"),
            ("limit=501", "1 to 500"),
            ("limit=1000000000", "1 to 500"),
            ("limit=-1", "1 to 500"),
            ("limit=%2B5", "1 to 500"),
            ("limit=007", "1 to 500"),
            ("user=", "1 to 512"),
            ("q=%00", "control"),
            ("colour=red", "status, user, target"),
            ("limit=1&limit=2", "twice"),
        ] {
            let detail = refusal(query);
            assert!(detail.contains(words), "{query}: {detail}");
            assert!(detail.contains(query.split('=').next().unwrap()), "{query}: {detail}");
        }
    }

    #[test]
    fn an_escape_that_spells_no_text_is_refused() {
        for query in ["q=%", "q=%4", "q=%zz", "q=%+1", "q=%\u{e9}", "q=%ff", "q=%c3&user=%a9", "%zz=1"] {
            assert!(refusal(query).contains("UTF-8"), "{query}");
        }
        assert_eq!(parse("q=%C3%a9+%25").unwrap().text.as_deref(), Some("\u{e9} %"));
    }

    #[test]
    fn what_a_caller_sent_is_quoted_without_control_characters() {
        assert!(!refusal("%0d%0aX=1").contains('\n'));
        assert!(refusal(&format!("sort={}", "x".repeat(10_000))).len() < 300);
    }

    #[test]
    fn a_cursor_leads_back_to_its_position() {
        for (name, sort) in SORTS {
            for key in [i64::MIN, 0, START.0] {
                let next = Position { key, id: record().id };
                let query = format!("sort={name}&cursor={}", cursor(sort, next));
                assert_eq!(parse(&query).unwrap().after, Some(next));
            }
        }
    }

    #[test]
    fn a_cursor_is_refused_after_any_change() {
        let whole = cursor(Sort::default(), Position { key: START.0, id: record().id });
        for place in 0..whole.len() {
            let mut changed = whole.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(parse(&format!("cursor={changed}")).is_err(), "{place}");
            assert!(parse(&format!("cursor={}", &whole[..place])).is_err(), "cut at {place}");
        }
        assert!(refusal(&format!("sort=end_time&cursor={whole}")).contains("another sort"));
    }
}
