//! Authenticates callers, by token, by cookie, or as nobody, and decides their rights: the one place that does. Does
//! not know the requests of callers.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    middleware::Next,
};

use super::{
    client, cookies,
    error::Problem,
    origin,
    secret::{self, Digest},
    state::State,
    user_header,
};
use crate::{
    actor::sign_ins::SignedIn,
    core::{
        people::{Directory, Right, Rights, Role, SignIn, TargetAccess, Token, User},
        record::{Record, UtcMicros, micros},
    },
    store::StoreError,
};

/// Callers by token.
mod token;

pub use crate::core::people::ADMIN;
use token::bearer;
pub use token::{by_token, check_token};

/// How far the clock of the gateway that opens a session may be behind that of the one that created its user: as far as
/// clocks may differ at a sign-in with a provider, whose users are created and open sessions at once.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The authenticated caller, as of the request's arrival. As an extractor it fails with 401 unless [`guard`] has
/// admitted a caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user's name.
    pub user: Arc<str>,
    /// The credential they presented.
    pub via: Via,
    /// The targets they may open.
    pub access: TargetAccess,
    rights: Rights,
    /// The earliest start of a session that is theirs; `None` for a caller who is not a user.
    since: Option<UtcMicros>,
}

/// The credential a caller presents.
#[derive(Debug, Clone)]
pub enum Via {
    /// The gateway's own token.
    Gateway,
    /// The cookie of a browser.
    Cookie(Digest, SignedIn),
    /// A user's token.
    Token(Box<Token>),
    /// The header of a trusted proxy.
    Header,
}

/// How completely a caller must be authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Signed in, even if only by a password where their role requires a second factor.
    Begun,
    /// With everything their role requires.
    Whole,
}

impl Caller {
    /// Returns the caller; `None` for a user who may not sign in.
    fn new(state: &State, directory: &Directory, user: Arc<str>, via: Via) -> Option<Self> {
        let access = directory.access(&user)?;
        let of_role = access.role.rights();
        let rights = match &via {
            Via::Token(token) => token
                .scopes
                .iter()
                .fold(of_role, |rights, scopes| rights.and(Rights::from_iter(scopes.iter().copied()))),
            Via::Gateway | Via::Cookie(..) | Via::Header => of_role,
        };
        let made_at = directory.users.get(&*user).map(|user| user.created_at);
        let since = made_at.map(|at| UtcMicros(at.0.saturating_sub(micros(CLOCK_SKEW))));
        // A user created while a clock was far ahead would own no session until that time is reached.
        let since = since.filter(|since| *since <= (state.settings.utc)());
        Some(Self { user, via, access, rights, since })
    }

    /// Returns the same caller as of now; `None` once they are no longer signed in, or must have a second factor that
    /// they lack. A stream calls this while it lasts, which counts as use of the cookie.
    pub fn now(&self, state: &State) -> Option<Self> {
        self.begun(state).filter(|caller| !caller.must_enrol(state))
    }

    /// Returns the same caller as of now, whether or not they have the second factor that their role requires.
    fn begun(&self, state: &State) -> Option<Self> {
        let directory = state.gateway.people().directory();
        match &self.via {
            Via::Gateway => Some(self.clone()),
            Via::Cookie(cookie, _) => by_cookie(state, &directory, *cookie),
            Via::Token(token) => by_token(state, &directory, &token.digest),
            Via::Header => Self::new(state, &directory, self.user.clone(), Via::Header),
        }
    }

    /// Returns the same caller as of now, once their request's body has arrived, which may take long.
    ///
    /// # Errors
    /// 401 once they are no longer signed in, 403 if they lack `right`, or the second factor without which none counts.
    pub fn recheck(&self, state: &State, right: Option<Right>) -> Result<Self, Problem> {
        let caller = self.begun(state).ok_or_else(Problem::not_signed_in)?;
        let Some(right) = right else { return Ok(caller) };
        if caller.must_enrol(state) {
            return Err(Problem::second_factor_required());
        }
        caller.need(right).map(|()| caller)
    }

    /// As [`Self::recheck`], after the store was read again: for a caller whose act had to wait, for others or until it
    /// was audited.
    ///
    /// # Errors
    /// As [`Self::recheck`], and 503 if the store does not answer.
    pub async fn recheck_anew(&self, state: &State, right: Option<Right>) -> Result<Self, Problem> {
        state.gateway.people().refresh().await?;
        self.recheck(state, right)
    }

    /// Returns their role.
    pub fn role(&self) -> Role {
        self.access.role
    }

    /// Returns their rights.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether they have this right.
    pub fn has(&self, right: Right) -> bool {
        self.rights.has(right)
    }

    /// Refuses callers who lack a right.
    ///
    /// # Errors
    /// 403, naming the right.
    pub fn need(&self, right: Right) -> Result<(), Problem> {
        if self.has(right) {
            return Ok(());
        }
        let who = match &self.via {
            Via::Token(token) if self.access.role.rights().has(right) => format!("the token {:?}", token.name),
            Via::Gateway | Via::Cookie(..) | Via::Token(_) | Via::Header => {
                format!("the role {}", self.role().as_str())
            }
        };
        Err(Problem::forbidden(format!(
            "This needs the right {}, which {who} does not have. Ask your administrator.",
            right.as_str()
        )))
    }

    /// Whether they signed in by a password alone although the role that they have by now requires a second factor.
    /// Programs are exempt.
    pub fn must_enrol(&self, state: &State) -> bool {
        let directory = state.gateway.people().directory();
        // A provider checks a second factor itself.
        let lacks = |user: &User| user.second_factor.is_none() && user.identity.is_none();
        let asked = |user: &User| match self.via {
            Via::Cookie(..) => state.settings.require_totp.contains(&user.role),
            // A proxy checks a second factor itself.
            Via::Gateway | Via::Token(_) | Via::Header => false,
        };
        directory.users.get(&*self.user).is_some_and(|user| asked(user) && lacks(user))
    }

    /// Whether this session is their own, and not that of an earlier user of the same name.
    pub fn owns(&self, record: &Record) -> bool {
        *self.user == *record.username && self.since.is_none_or(|since| record.start_time >= since)
    }

    /// Returns the earliest start of a session of their own; `None`: any time.
    pub fn since(&self) -> Option<UtcMicros> {
        self.since
    }

    /// Refuses tokens with scopes: a token that holds fewer rights than its owner cannot change the owner's own
    /// account.
    ///
    /// # Errors
    /// 403.
    pub fn need_all_of_owner(&self) -> Result<(), Problem> {
        match &self.via {
            Via::Token(token) if token.scopes.is_some() => {
                Err(Problem::forbidden("A token with scopes cannot change passwords, tokens or devices."))
            }
            Via::Gateway | Via::Cookie(..) | Via::Token(_) | Via::Header => Ok(()),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(Problem::not_signed_in))
    }
}

/// Admits callers that are authenticated to this `proof` and have `right`, if one is required; answers 401 or 403 to
/// all others. For a middleware.
pub async fn guard(
    proof: Proof,
    right: Option<Right>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match admit(proof, right, request.request()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.call(request).await.map(ServiceResponse::map_into_left_body)
        }
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}

async fn admit(proof: Proof, right: Option<Right>, request: &HttpRequest) -> Result<Caller, Problem> {
    let by_cookie = seek(request).await;
    let caller = identify(request, by_cookie)?;
    if proof == Proof::Whole && caller.must_enrol(State::of(request)?) {
        return Err(Problem::second_factor_required());
    }
    right.map_or(Ok(()), |right| caller.need(right)).map(|()| caller)
}

/// Returns the sender of a cookie. If the cached sign-ins and users do not know the cookie, they are read from the
/// store: another gateway, or an earlier run of this one, may have issued it.
///
/// # Errors
/// 503 if the store does not answer, 429 to an address that sent too many cookies that belong to no sign-in.
async fn seek(request: &HttpRequest) -> Result<Option<Caller>, Problem> {
    let (state, Some(cookie)) = (State::of(request)?, cookie(request)) else { return Ok(None) };
    if bearer(request).is_some() {
        return Ok(None);
    }
    let people = state.gateway.people();
    let at_hand = || by_cookie(state, &people.directory(), cookie);
    if let Some(caller) = at_hand() {
        return Ok(Some(caller));
    }
    let address = client::client_ip(request, &state.settings);
    if let Some(wait) = state.strays.wait(state.now(), &address) {
        let detail = "Too many cookies of no sign-in came from your address. Try again in a minute.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    let fits = |kept: &SignIn| fits(state, &people.directory(), kept);
    if state.sign_ins().fetch(state.times(), &cookie, fits).await.map_err(unread)? && at_hand().is_none() {
        // The sign-in belongs to a user or a password that this gateway does not know yet.
        people.refresh().await.map_err(unread)?;
    }
    let caller = at_hand();
    if caller.is_none() {
        state.strays.note(state.now(), &address);
    }
    Ok(caller)
}

/// 503: it cannot be determined whether the caller is signed in.
fn unread(error: StoreError) -> Problem {
    tracing::warn!(%error, "a sign-in cannot be read");
    Problem::unavailable(
        "The store of sign-ins does not answer, so this gateway cannot tell whether you are signed in. You need not sign in again: \
         try again in a moment.",
        5,
    )
}

/// Returns the caller. Their cookie counts only without any other credential; a failed look-up is not answered as a
/// 401.
fn identify(request: &HttpRequest, by_cookie: Result<Option<Caller>, Problem>) -> Result<Caller, Problem> {
    let state = State::of(request)?;
    if let Some(token) = bearer(request) {
        return check_token(request, token)?.ok_or_else(Problem::not_signed_in);
    }
    let directory = state.gateway.people().directory();
    let caller = match user_header::user(request, state, &directory)? {
        Some(user) => Caller::new(state, &directory, user, Via::Header),
        None => by_cookie?,
    };
    let caller = caller.ok_or_else(Problem::not_signed_in)?;
    if !request.method().is_safe() {
        origin::check_change(request, &caller.user)?;
    }
    Ok(caller)
}

pub(super) fn by_cookie(state: &State, directory: &Directory, cookie: Digest) -> Option<Caller> {
    let signed_in = state.sign_ins().find(state.times(), &cookie)?;
    if !fits(state, directory, &signed_in.kept) {
        return None;
    }
    Caller::new(state, directory, signed_in.kept.user.as_str().into(), Via::Cookie(cookie, signed_in))
}

/// Whether a sign-in is still valid. A user whose password was changed since, or who was removed and added again, must
/// sign in again; a sign-in by a token is valid only as long as the token.
fn fits(state: &State, directory: &Directory, kept: &SignIn) -> bool {
    let has_token = |id: &String| directory.tokens.get(id).is_some_and(|token| token.works_at((state.settings.utc)()));
    directory.access(&kept.user).is_some()
        && kept.token.as_ref().is_none_or(has_token)
        && state.stamp(directory, &kept.user).is_some_and(|stamp| kept.holds(&stamp))
}

/// Returns the digest of the request's session cookie, if its value could be one of ours.
pub fn cookie(request: &HttpRequest) -> Option<Digest> {
    let state = State::of(request).ok()?;
    cookies::read(request, &state.settings, cookies::SESSION).map(secret::digest)
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, cookie::Cookie, http::header::AUTHORIZATION, test::TestRequest, web};

    use super::*;
    use crate::core::people::token_digest;
    use crate::web::{
        fixture::{START, TOKEN, caller, cookie_of, record, settings, state_with},
        state::Settings,
    };

    #[actix_rt::test]
    async fn who_gets_a_name_anew_gets_none_of_its_sessions() {
        let state = state_with(settings());
        let owns = |user: &str, username: &str, before: Duration| {
            let start_time = UtcMicros(START.0 - micros(before));
            caller(&state, user).0.owns(&Record { username: username.to_owned(), start_time, ..record() })
        };
        assert!(owns("user", "user", Duration::ZERO) && !owns("user", "viewer", Duration::ZERO));
        assert!(owns("user", "user", CLOCK_SKEW), "the clock of another gateway may be behind");
        assert!(!owns("user", "user", CLOCK_SKEW + Duration::from_micros(1)));
        assert!(owns(ADMIN, ADMIN, CLOCK_SKEW * 1_000), "nobody else ever had that name");
    }

    async fn admitted(state: &web::Data<State>, proof: Proof, request: TestRequest) -> u16 {
        let request = request.app_data(state.clone()).to_http_request();
        admit(proof, None, &request).await.map_or_else(|problem| problem.status_code().as_u16(), |_| 200)
    }

    #[actix_rt::test]
    async fn a_role_that_must_have_a_second_factor_does_nothing_without() {
        let state =
            state_with(Settings { require_totp: vec![Role::Viewer, Role::Admin, Role::Operator], ..settings() });
        let by_cookie =
            |user: &str| TestRequest::default().cookie(Cookie::new(cookies::SESSION.0, cookie_of(&state, user)));
        let by_token = |token: &str| TestRequest::default().insert_header((AUTHORIZATION, format!("Bearer {token}")));
        assert_eq!(admitted(&state, Proof::Whole, by_cookie("viewer")).await, 403);
        assert_eq!(admitted(&state, Proof::Begun, by_cookie("viewer")).await, 200);
        assert_eq!(admitted(&state, Proof::Whole, by_cookie("auditor")).await, 200);
        // A user without a password has no second factor here; nor has a program.
        assert_eq!(admitted(&state, Proof::Whole, by_cookie(ADMIN)).await, 200);
        assert_eq!(admitted(&state, Proof::Whole, by_token(TOKEN)).await, 200);
        assert_eq!(admitted(&state, Proof::Whole, by_token("pgt_observe")).await, 200);
    }

    #[actix_rt::test]
    async fn a_stream_ends_for_who_lacks_a_second_factor_by_now() {
        let state = state_with(Settings { require_totp: vec![Role::Operator], ..settings() });
        let (operator, viewer) = (caller(&state, "operator").0, caller(&state, "viewer").0);
        assert!(operator.now(&state).is_none() && viewer.now(&state).is_some());
        let status =
            |right| operator.recheck(&state, right).map_or_else(|problem| problem.status_code().as_u16(), |_| 200);
        assert_eq!((status(None), status(Some(Right::Observe))), (200, 403), "they may still turn one on");
        let directory = state.gateway.people().directory();
        let program = by_token(&state, &directory, &token_digest("pgt_whole")).unwrap();
        assert!(program.now(&state).is_some());
    }
}
