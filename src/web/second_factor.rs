//! `/api/v1/me/totp`: turns the caller's second factor on and off; and checks the code of a sign-in. Does not know
//! passwords.

use std::{net::IpAddr, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::SemaphorePermit;

use super::{account, audit::Visitor, auth::Caller, error::Problem, object::Body, state::State, throttle::network};
use crate::{
    core::{
        audit::{ANONYMOUS, Action, Deed},
        people::{Enrolment, SecondFactor, User},
        totp::{self, Typed},
    },
    store::people::Change,
};

/// How often a code is tried again because its user was changed at the same moment.
const MAX_WRITE_ATTEMPTS: usize = 3;

/// The time in which a code follows the password: the page asks for the password first, and a phone may lie elsewhere.
const CODE_FOLLOWS_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The caller's password, again: a page left open, or a stolen cookie, cannot change how the user signs in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Again {
    password: SecretString,
}

/// `POST /api/v1/me/totp`: creates a secret and shows it, this once. No code is required until one confirms the secret,
/// on any gateway.
pub async fn begin(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: Body<Again>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, None)?;
    let user = enrolling(&state, &caller)?;
    let password = body.into_inner().password;
    account::check_password(&request, &state, &user, password, Action::UserSecondFactor).await?;
    let secret = totp::secret(rand::random());
    let uri = totp::uri(&secret, &user.name);
    let told = json!({ "secret": secret.expose_secret(), "uri": uri.expose_secret() });
    let sealed =
        state.settings.seals.seal(rand::random(), &totp::place(&user.name), &secret).ok_or_else(Problem::internal)?;
    let enrolment = Some(Enrolment::new(sealed, (state.settings.utc)()));
    replace(&state, User { enrolment, ..user }).await?;
    Ok(HttpResponse::Ok().json(told))
}

/// A code of the new secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    code: SecretString,
}

/// `POST /api/v1/me/totp/confirm`: turns the second factor on, and shows the recovery codes, this once.
pub async fn confirm(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: Body<Confirmation>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, None)?;
    let user = enrolling(&state, &caller)?;
    may_try(&state, &user.name)?;
    let waits = user.enrolment.clone().filter(|enrolment| enrolment.waits((state.settings.utc)()));
    let Enrolment { sealed, .. } = waits.ok_or_else(|| {
        Problem::conflict(
            "No secret waits to be confirmed: it is kept for 15 minutes. Turn the second factor on again.",
        )
    })?;
    let secret = open(&state, &user.name, &sealed)?;
    let step = match Typed::read(&body.code) {
        Some(Typed::Digits(digits)) => totp::step(&secret, &digits, (state.settings.utc)(), 0),
        Some(Typed::Recovery(_)) | None => None,
    };
    let Some(step) = step else {
        state.codes.note(state.now(), user.name.as_str());
        return Err(Problem::forbidden(
            "This code does not fit. Type the six digits that the app shows now; if they never fit, set the phone's clock right.",
        ));
    };
    let (shown, recovery): (Vec<_>, Vec<_>) =
        (0..totp::RECOVERY_CODES).map(|_| totp::recovery_code(rand::random())).unzip();
    let factor = SecondFactor { sealed, step, recovery, mark: rand::random() };
    let visitor = Visitor::of(&request, &state, &caller);
    let deed = visitor.did(Action::UserSecondFactor, &user.name, "Their own, turned on.");
    state.gateway.audit().record(deed).await?;
    replace(&state, User { second_factor: Some(factor), enrolment: None, ..user }).await?;
    let shown: Vec<_> = shown.iter().map(ExposeSecret::expose_secret).collect();
    Ok(HttpResponse::Ok().json(json!({ "recovery_codes": shown })))
}

/// `DELETE /api/v1/me/totp`: removes the caller's own second factor, 204. Nobody is signed out by it.
pub async fn remove(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    body: Body<Again>,
) -> Result<HttpResponse, Problem> {
    let caller = caller.recheck(&state, None)?;
    caller.need_all_of_owner()?;
    let user = account::own(&state, &caller)?;
    let password = body.into_inner().password;
    account::check_password(&request, &state, &user, password, Action::UserSecondFactor).await?;
    if user.second_factor.is_none() {
        return Err(Problem::conflict("There is no second factor to turn off."));
    }
    let visitor = Visitor::of(&request, &state, &caller);
    let deed = visitor.did(Action::UserSecondFactor, &user.name, "Their own, taken away.");
    state.gateway.audit().record(deed).await?;
    replace(&state, User { second_factor: None, ..user }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Uses up the code that came with the right password, and describes it in words. The caller holds the permit of the
/// password check, so that of many codes sent at once no more are tried than are counted.
///
/// # Errors
/// 401 without a code, or with one that is wrong or was used before, here or on another gateway; 429 after too many.
pub async fn spend(
    state: &web::Data<State>,
    permit: SemaphorePermit<'_>,
    address: IpAddr,
    mut user: User,
    code: Option<SecretString>,
) -> Result<&'static str, Problem> {
    let Some(code) = code else { return Err(ask(state, address, user)) };
    may_try(state, &user.name)?;
    let typed = Typed::read(&code);
    let (hash, mut permit) = (user.password_hash.clone(), Some(permit));
    for _ in 0..MAX_WRITE_ATTEMPTS {
        let left = typed.as_ref().map(|typed| left(state, &user, typed)).transpose()?.flatten();
        let (Some(typed), Some(left)) = (&typed, left) else {
            return Err(refuse(state, address, &user.name));
        };
        drop(permit.take());
        let name = user.name.clone();
        if write(state, User { second_factor: Some(left), ..user }).await? {
            return Ok(match typed {
                Typed::Digits(_) => "with a password and a code",
                Typed::Recovery(_) => "with a password and a recovery code",
            });
        }
        // The user was changed: perhaps by this very code, on another gateway.
        let now = state.gateway.people().directory().users.get(&name).cloned();
        user =
            now.filter(|user| !user.disabled && user.password_hash == hash).ok_or_else(Problem::wrong_credentials)?;
    }
    Err(Problem::unavailable("Your account was changed at the same moment. Try again.", 1))
}

/// Asks for the code that must come with the right password. If this user spends none within a while, wherever, the
/// audit log is told, of each address once an hour: somebody else may know the password.
fn ask(state: &web::Data<State>, address: IpAddr, user: User) -> Problem {
    let (now, place) = (state.now(), (user.name, network(address)));
    // No user name contains a NUL.
    let counted = format!("{}\0{}", place.0, place.1);
    if let Some(wait) = state.without_code.wait(now, counted.as_str()) {
        let detail = "The code was left out too often. Try again in ten minutes, with the code.";
        return Problem::too_many(detail, wait.as_secs() + 1);
    }
    state.without_code.note(now, counted.as_str());
    if state.codeless.is_news(now, place.clone()) {
        let (state, before) = (state.clone(), user.second_factor);
        actix_web::rt::spawn(async move {
            tokio::time::sleep(CODE_FOLLOWS_WITHIN).await;
            let directory = state.gateway.people().directory();
            // Each code that is spent, on whatever gateway, changes it.
            if directory.users.get(&place.0).is_none_or(|user| user.second_factor != before) {
                return state.codeless.forget(state.now(), &place);
            }
            let detail = "The right password, and no code followed it.";
            state.gateway.audit().note(Deed::refused(Action::SignIn, ANONYMOUS, address, &place.0, detail));
        });
    }
    Problem::second_factor("Type the six digits that your authenticator app shows, or a recovery code.")
}

/// Returns the second factor after this code is used, if the code is right.
fn left(state: &State, user: &User, typed: &Typed) -> Result<Option<SecondFactor>, Problem> {
    let Some(factor) = &user.second_factor else { return Ok(None) };
    let secret = match typed {
        Typed::Digits(_) => Some(open(state, &user.name, &factor.sealed)?),
        Typed::Recovery(_) => None,
    };
    Ok(factor.spend(typed, secret.as_ref(), (state.settings.utc)(), rand::random()))
}

/// Returns the secret of a user's codes.
fn open(state: &State, name: &str, sealed: &str) -> Result<SecretString, Problem> {
    state.settings.seals.open(&totp::place(name), sealed).map_err(|error| {
        tracing::error!(user = name, %error, "a second factor cannot be decrypted");
        Problem::unavailable(
            "This gateway cannot check your code. Use a recovery code if you have any, and tell its operator.",
            60,
        )
    })
}

fn refuse(state: &State, address: IpAddr, name: &str) -> Problem {
    state.throttle.note(state.now(), &address);
    state.codes.note(state.now(), name);
    let detail = "The right password, with a wrong or used code.";
    state.gateway.audit().note(Deed::refused(Action::SignIn, ANONYMOUS, address, name, detail));
    Problem::second_factor(
        "This code does not fit, or was used already. Wait for the next one, or use a recovery code.",
    )
}

/// Refuses another try after too many wrong codes.
fn may_try(state: &State, name: &str) -> Result<(), Problem> {
    state.codes.wait(state.now(), name).map_or(Ok(()), |wait| {
        let seconds = wait.as_secs() + 1;
        Err(Problem::too_many("Too many wrong codes were tried. Try again in ten minutes.", seconds))
    })
}

/// Returns the caller as a user who may turn a second factor on.
fn enrolling(state: &State, caller: &Caller) -> Result<User, Problem> {
    caller.need_all_of_owner()?;
    let user = account::own(state, caller)?;
    if user.second_factor.is_some() {
        return Err(Problem::conflict("You have a second factor already. Turn it off first to turn on another one."));
    }
    Ok(user)
}

async fn replace(state: &State, user: User) -> Result<(), Problem> {
    if write(state, user).await? { Ok(()) } else { Err(account::changed_meanwhile()) }
}

/// Writes `user`, and returns whether the stored user was still the one that had been read.
async fn write(state: &State, user: User) -> Result<bool, Problem> {
    let before = user.changed_at;
    let changed_at = user.next_change((state.settings.utc)());
    Ok(state.gateway.people().change(Change::Replace(User { changed_at, ..user }, before)).await?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::ResponseError;

    use super::*;
    use crate::{
        store::audit::AuditQuery,
        web::fixture::{START, Team, settings, state_with, with_team},
    };

    fn ada(state: &State) -> (User, SecretString, SecretString) {
        let secret = totp::secret([7; totp::SECRET_BYTES]);
        let (shown, digest) = totp::recovery_code([9; totp::RECOVERY_BYTES]);
        let sealed = state.settings.seals.seal([1; 12], &totp::place("viewer"), &secret).unwrap();
        let factor = SecondFactor { sealed, step: 0, recovery: vec![digest], mark: 0 };
        let user = state.gateway.people().directory().users["viewer"].clone();
        (User { second_factor: Some(factor), ..user }, secret, shown)
    }

    async fn tries(state: &web::Data<State>, user: &User, code: Option<&str>) -> u16 {
        let permit = state.comparing.acquire().await.unwrap();
        let code = code.map(SecretString::from);
        let outcome = spend(state, permit, [192, 0, 2, 7].into(), user.clone(), code).await;
        outcome.map_or_else(|problem| problem.status_code().as_u16(), |_| 204)
    }

    #[actix_rt::test]
    async fn after_ten_wrong_codes_even_the_right_one_waits() {
        let state = state_with(settings());
        let (user, secret, recovery) = ada(&state);
        for _ in 0..20 {
            assert_eq!(tries(&state, &user, None).await, 401, "to be asked for a code is no wrong one");
        }
        // The store of these tests is down: a right code gets no further than 503.
        let right = totp::shown(&secret, START);
        assert_eq!(tries(&state, &user, Some(&right)).await, 503);
        assert_eq!(tries(&state, &user, Some(recovery.expose_secret())).await, 503);
        for wrong in ["000000", "", "x", "12345678", "aaaa-aaaa-aaaa-aaaa"].repeat(2) {
            assert_eq!(tries(&state, &user, Some(wrong)).await, 401, "{wrong:?}");
        }
        for code in [right.as_str(), recovery.expose_secret(), "000000"] {
            assert_eq!(tries(&state, &user, Some(code)).await, 429);
        }
        assert_eq!(tries(&state, &user, None).await, 401);
    }

    #[actix_rt::test]
    async fn a_right_password_that_no_code_follows_is_told_once_an_hour() {
        tokio::time::pause();
        let factor = |mark| SecondFactor { sealed: String::new(), step: 0, recovery: vec![], mark };
        let team = Arc::new(Team::with_factor(factor(0)));
        let state = with_team(settings(), team.clone());
        let user = || state.gateway.people().directory().users["viewer"].clone();
        let told = async || {
            let marker = Deed::of_gateway(Action::StoreSweep, "", "Told by a test.");
            state.gateway.audit().record(marker).await.unwrap();
            let query = AuditQuery { action: Some(Action::SignIn), limit: 50, ..AuditQuery::default() };
            state.gateway.audit().list(query).await.unwrap().entries.len()
        };
        // Somebody types the password twice and then the code; a stranger has the password alone.
        for (tries_of_it, spent, entries) in [(2, true, 0), (2, false, 1), (1, false, 1)] {
            for _ in 0..tries_of_it {
                assert_eq!(tries(&state, &user(), None).await, 401);
            }
            if spent {
                team.spends(factor(1));
                state.gateway.people().refresh().await.unwrap();
            }
            tokio::time::timeout(CODE_FOLLOWS_WITHIN * 2, std::future::pending::<()>()).await.unwrap_err();
            assert_eq!(told().await, entries);
        }
    }

    #[actix_rt::test]
    async fn who_leaves_the_code_out_again_and_again_waits_there() {
        let state = state_with(settings());
        let (user, secret, _) = ada(&state);
        for _ in 0..30 {
            assert_eq!(tries(&state, &user, None).await, 401);
        }
        assert_eq!(tries(&state, &user, None).await, 429);
        let right = totp::shown(&secret, START);
        assert_eq!(tries(&state, &user, Some(&right)).await, 503, "one with a code is tried");
        let permit = state.comparing.acquire().await.unwrap();
        let elsewhere = spend(&state, permit, [192, 0, 2, 8].into(), user, None).await;
        assert_eq!(elsewhere.unwrap_err().status_code().as_u16(), 401);
    }

    #[actix_rt::test]
    async fn a_secret_that_was_sealed_for_somebody_else_opens_for_nobody() {
        let state = state_with(settings());
        let (user, secret, recovery) = ada(&state);
        let moved = User { name: "auditor".to_owned(), ..user };
        assert_eq!(tries(&state, &moved, Some(&totp::shown(&secret, START))).await, 503);
        assert!(left(&state, &moved, &Typed::read(&recovery).unwrap()).unwrap().is_some(), "recovery codes still work");
    }
}
