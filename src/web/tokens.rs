//! `/api/v1/tokens`: a user's tokens for programs. Shows a secret once, and keeps its digest only.

use actix_web::{HttpRequest, HttpResponse, Responder, http::header::LOCATION, web};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    audit::Visitor,
    auth::Caller,
    error::{Problem, quoted},
    listing::{pairs, text, unknown},
    object::Body,
    secret,
    state::State,
    view::Rfc3339,
};
use crate::{
    core::{
        audit::Action,
        people::{Right, Rights, TOKEN_PREFIX, Token, is_token_name, token_digest},
        record::UtcMicros,
        target::each_once,
    },
    store::people::{Change, Seen},
};

/// The most tokens of one user.
const MAX_TOKENS: usize = 100;

/// The longest life of a token in seconds: ten years.
const LONGEST_LIFE: u64 = 10 * 365 * 24 * 60 * 60;

#[derive(Serialize)]
struct TokenView<'a> {
    id: &'a str,
    name: &'a str,
    user: &'a str,
    /// `None`: whatever its owner may, at each use.
    scopes: Option<&'a [Right]>,
    created_at: Rfc3339,
    expires_at: Option<Rfc3339>,
    last_used_at: Option<Rfc3339>,
}

/// The body that creates a token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    name: String,
    scopes: Option<Vec<Right>>,
    expires_in: Option<String>,
}

/// `GET /api/v1/tokens`: the caller's own; with `?user=NAME` another user's, for callers who manage users.
pub async fn list(request: HttpRequest, state: web::Data<State>, caller: Caller) -> Result<impl Responder, Problem> {
    let user = whose(request.query_string())?.unwrap_or_else(|| caller.user.to_string());
    if user != *caller.user {
        caller.need(Right::Manage)?;
    }
    let people = state.gateway.people();
    let (directory, seen) = (people.directory(), people.seen());
    let of_user = directory.tokens.values().filter(|token| token.user == user);
    let items: Vec<_> = of_user.map(|token| view(token, &seen)).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items })))
}

/// `POST /api/v1/tokens`: creates a token of the caller's own, 201; its secret is in this answer and nowhere else.
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: Body<NewToken>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, None)?;
    caller.need_all_of_owner()?;
    let NewToken { name, scopes, expires_in } = body.into_inner();
    if !is_token_name(&name) {
        return Err(Problem::bad_request("name must be 1 … 64 visible characters."));
    }
    if let Some(scopes) = &scopes {
        let wanted = Rights::from_iter(scopes.iter().copied());
        if scopes.is_empty() || !caller.rights().include(wanted) {
            let own: Vec<_> = caller.rights().iter().map(Right::as_str).collect();
            let detail = format!("scopes must be some of your own rights: {}.", own.join(", "));
            return Err(Problem::bad_request(detail));
        }
    }
    let now = (state.settings.utc)();
    let expires_at = expires_in.as_deref().map(|life| expiry(now, life)).transpose()?;
    let people = state.gateway.people();
    if people.directory().tokens.values().filter(|token| token.user == *caller.user).count() >= MAX_TOKENS {
        return Err(Problem::conflict(format!(
            "You have {MAX_TOKENS} tokens, and may have no more. Revoke some first."
        )));
    }
    let secret = format!("{TOKEN_PREFIX}{}", secret::fresh());
    let token = Token {
        id: HEXLOWER.encode(&rand::random::<[u8; 8]>()),
        name,
        user: caller.user.to_string(),
        digest: token_digest(&secret),
        scopes: scopes.map(each_once),
        created_at: now,
        expires_at,
        last_used_at: None,
    };
    count_change(&state, &caller)?;
    let visitor = Visitor::of(&request, &state, &caller);
    state
        .gateway
        .audit()
        .record(visitor.did(Action::TokenCreate, &token.id, &format!("Named {:?}.", token.name)))
        .await?;
    // The token of a user who was removed meanwhile would be good for the next user of that name.
    caller.recheck_anew(&state, None).await?;
    people.change(Change::AddToken(token.clone())).await?;
    let mut made = json!(view(&token, &Seen::default()));
    if let Some(fields) = made.as_object_mut() {
        fields.insert("token".to_owned(), secret.into());
    }
    Ok(HttpResponse::Created().insert_header((LOCATION, format!("/api/v1/tokens/{}", token.id))).json(made))
}

/// `DELETE /api/v1/tokens/{id}`: revokes a token, 204; everything opened with it ends.
pub async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let people = state.gateway.people();
    let owner = people.directory().tokens.get(&*id).map(|token| token.user.clone());
    let is_own = owner.as_deref() == Some(&*caller.user);
    if owner.is_none() || (!is_own && !caller.has(Right::Manage)) {
        return Err(Problem::not_found(format!("You have no token {}.", quoted(&id))));
    }
    if is_own {
        caller.need_all_of_owner()?;
    }
    count_change(&state, &caller)?;
    let detail = format!("Of {}.", owner.unwrap_or_default());
    let visitor = Visitor::of(&request, &state, &caller);
    state.gateway.audit().record(visitor.did(Action::TokenRevoke, &*id, &detail)).await?;
    caller.recheck_anew(&state, (!is_own).then_some(Right::Manage)).await?;
    people.change(Change::RemoveToken(id.into_inner())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Counts a change, which the audit log is told of.
///
/// # Errors
/// 429 after too many of one user.
fn count_change(state: &State, caller: &Caller) -> Result<(), Problem> {
    if let Some(wait) = state.token_changes.wait(state.now(), &caller.user) {
        let detail = "You made or revoked tokens too often within a minute. Wait a moment.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    state.token_changes.note(state.now(), &caller.user);
    Ok(())
}

/// Reads a life as `90d`, `12h`, `30m` or `45s`, and returns its end.
fn expiry(now: UtcMicros, life: &str) -> Result<UtcMicros, Problem> {
    let wrong = || {
        let allowed = "a number and d, h, m or s, as 90d; from 1s to 3650d";
        Problem::bad_request(format!("expires_in={} is not allowed. Allowed: {allowed}.", quoted(life)))
    };
    let unit = life.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number = life.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = number.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    let seconds = number.checked_mul(seconds).filter(|life| (1..=LONGEST_LIFE).contains(life)).ok_or_else(wrong)?;
    let micros = i64::try_from(seconds * 1_000_000).map_err(|_| wrong())?;
    Ok(UtcMicros(now.0.saturating_add(micros)))
}

fn view<'a>(token: &'a Token, seen: &Seen) -> TokenView<'a> {
    TokenView {
        id: &token.id,
        name: &token.name,
        user: &token.user,
        scopes: token.scopes.as_deref(),
        created_at: Rfc3339(token.created_at),
        expires_at: token.expires_at.map(Rfc3339),
        last_used_at: seen.tokens.get(&token.id).copied().max(token.last_used_at).map(Rfc3339),
    }
}

/// Returns the user whose tokens a query asks for.
fn whose(query: &str) -> Result<Option<String>, Problem> {
    let mut user = None;
    for (key, value) in &pairs(query, "")? {
        match key.as_str() {
            "user" => user = Some(text(key, value)?),
            _ => return Err(unknown(key, "user")),
        }
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_one_user() {
        assert_eq!((whose(""), whose("user=ada")), (Ok(None), Ok(Some("ada".to_owned()))));
        for wrong in ["user=", "user=a&user=b", "name=ada"] {
            assert!(whose(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_life_is_a_number_and_a_unit() {
        let seconds = |life| expiry(UtcMicros(0), life).ok().map(|end| end.0 / 1_000_000);
        assert_eq!(seconds("90d"), Some(7_776_000));
        assert_eq!((seconds("12h"), seconds("30m"), seconds("45s")), (Some(43_200), Some(1_800), Some(45)));
        for wrong in ["", "d", "0d", "-1d", "+1d", "1.5h", "1w", "3651d", "99999999999999999999d", "1ö", "1 d"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
