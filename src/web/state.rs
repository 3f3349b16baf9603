//! Owns the state that every handler shares: the gateway, the settings, the sign-ins. Does not know routes.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use actix_web::{HttpRequest, http::header::HeaderName, web};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::sync::{Mutex, Semaphore};

use super::{
    dial_limit::DialLimit,
    error::Problem,
    events::Streams,
    foreign::Foreign,
    links::Links,
    oidc::UnderWay,
    pages::Pages,
    refused_opens::RefusedOpens,
    secret::{self, Digest},
    throttle::Throttle,
    told::Told,
};
use crate::{
    actor::{
        gateway::Gateway,
        sign_ins::{Now, SignIns},
    },
    core::{
        audit::Action,
        expiring_map::ExpiringMap,
        oidc::Rules,
        password,
        people::{self, CatalogueEntry, Directory, Role},
        record::{SessionId, UtcMicros},
        seal::Seals,
    },
    notify::provider::Provider,
    ssh::{AddressRule, Credential, Hop, HostKeyPolicy, HostKeys},
};

/// Wrong tokens and passwords per address and minute: enough for a user who mistypes and a misconfigured script.
const MAX_WRONG_SECRETS: u32 = 10;

/// Cookies without a sign-in per address and minute: far more than an office with expired sign-ins sends, too few to
/// keep the store busy.
const MAX_UNKNOWN_COOKIES: u32 = 120;

/// The salt of the admin token's hash: the same at every gateway, since only the hash shows that the token has changed.
const OWN_SALT: [u8; 16] = *b"gateway's token!";

/// Wrong passwords per name and minute, from all addresses: more than one address may try, so that no single address
/// can lock a user out.
const TRIES_FOR_A_NAME: u32 = 100;

/// Sign-ins per user and minute: more than a user makes, too few to keep every gateway busy reading the changes.
const SIGN_INS: u32 = 60;

/// Wrong codes for one name, after the right password: guessing one of three valid codes in a million then takes years.
const MAX_WRONG_CODES: u32 = 10;

/// The window in which wrong codes are counted.
const CODES_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Right passwords without a code for one name from one address, in that window: the page sends one at each sign-in.
const MAX_WITHOUT_CODE: u32 = 30;

/// The life of the set-up link: time to go from the terminal to a browser, and no more: a user who reads the link can
/// become the admin.
const SETUP_LIFE: Duration = Duration::from_secs(30 * 60);

/// Target tests per user and minute: enough to set a target up, too few to scan with.
const MAX_TRIALS: u32 = 6;

/// Attaches per user, session and [`ATTACH_WINDOW`]: more than a page makes whose line breaks whenever it is there, since
/// it pauses for 190 ms on average. Each may be two lines in the history.
pub(super) const MAX_ATTACHES: u32 = 60;

/// The window in which they are counted.
pub(super) const ATTACH_WINDOW: Duration = Duration::from_secs(10);

/// Tokens made and revoked per user and minute: more than a person or a script needs, too few to fill the audit log.
const MAX_TOKEN_CHANGES: u32 = 60;

/// Sign-outs of all devices per user and minute.
const MAX_SIGN_OUTS: u32 = 10;

/// Sessions that a user opens within [`OPENS_WITHIN`]: five a second, all the time. Each is two or three audit entries.
const MAX_OPENS: u32 = 3_000;

/// The window in which they are counted.
const OPENS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The same for each session that one user may have open at once, where that is more: who may have many opens many.
const OPENS_FOR_EACH: u32 = 10;

/// Password checks at once.
const MAX_COMPARISONS: usize = 2;

/// The web layer's configuration.
pub struct Settings {
    /// The address listened on; decides which host names are our own.
    pub listen: IpAddr,
    /// Allowed origins besides our own, as browsers spell them: `https://gw.example:8443`.
    pub allowed_origins: Vec<String>,
    /// The address under which browsers reach the gateway, as `https://gw.example`; `None`: the one each request names.
    pub public_url: Option<String>,
    /// Whether this listener speaks TLS itself.
    pub tls: bool,
    /// Peers whose forwarding headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The catalogue.
    pub targets: Vec<Target>,
    /// The host keys of this gateway.
    pub host_keys: HostKeys,
    /// The policy for an unknown key of a host that is not in the catalogue.
    pub host_key_policy: HostKeyPolicy,
    /// The addresses a target typed by hand may have; `None` if typing targets is disabled.
    pub adhoc: Option<AddressRule>,
    /// The roles that must sign in with a second factor.
    pub require_totp: Vec<Role>,
    /// The header in which proxies name a user, and the proxies trusted to do so; `None`: no header does.
    pub user_header: Option<UserHeader>,
    /// The provider that signs users in, if any.
    pub oidc: Option<Oidc>,
    /// The admin token, at least 32 characters.
    pub admin_token: Option<SecretString>,
    /// The keys that seal credentials.
    pub seals: Arc<Seals>,
    /// The directory of recordings.
    pub data_dir: PathBuf,
    /// Whether this is the demo.
    pub demo: bool,
    /// The version shown to people.
    pub version: &'static str,
    /// Monotonic time since some fixed moment; only differences count.
    pub clock: fn() -> Duration,
    /// The time of day.
    pub utc: fn() -> UtcMicros,
}

/// The header in which a proxy names a user whom it signed in itself.
#[derive(Debug, Clone)]
pub struct UserHeader {
    /// The header.
    pub name: HeaderName,
    /// The proxies, by the address of their connection.
    pub from: Vec<IpNet>,
}

/// An OpenID Connect provider that signs users in.
pub struct Oidc {
    /// Its display name.
    pub name: String,
    /// The client that talks to it.
    pub provider: Provider,
    /// The rules that map its users to users here.
    pub rules: Rules,
    /// Whether its users, once they signed out here, are sent on to sign out there.
    pub sign_out_at_provider: bool,
}

/// A target of the catalogue.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name, unique.
    pub name: String,
    /// A name or an address.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name.
    pub username: String,
    /// The credentials for the login, tried in this order.
    pub credentials: Vec<Credential>,
    /// The heading it is shown under.
    pub group: Option<String>,
    /// The jump hosts on the way, the first one first.
    pub via: Vec<Hop>,
    /// Tags to find it by.
    pub tags: Vec<String>,
    /// The roles that may open it without a grant.
    pub roles: Vec<Role>,
    /// The policy for an unknown host key.
    pub host_key_policy: HostKeyPolicy,
}

impl Target {
    /// Returns its properties that matter for access.
    pub fn listed(&self) -> CatalogueEntry {
        CatalogueEntry { name: self.name.clone(), tags: self.tags.clone(), roles: self.roles.clone() }
    }

    /// Returns it without the way to it.
    pub fn hop(&self) -> Hop {
        Hop {
            name: self.name.clone(),
            host: self.host.clone(),
            port: self.port,
            login: self.username.clone(),
            credentials: self.credentials.clone(),
            allowed: None,
            host_key_policy: self.host_key_policy,
        }
    }
}

/// The state that all handlers share; one per process, in [`web::Data`].
pub struct State {
    /// The actors.
    pub gateway: Gateway,
    /// The configuration.
    pub settings: Settings,
    /// The one-time links that sign users in.
    links: Links,
    /// The stamp of sign-ins by the gateway's own token.
    own_stamp: OnceLock<String>,
    /// Addresses that sent cookies without a sign-in.
    pub strays: Throttle<IpAddr>,
    /// Addresses that tried wrong tokens and passwords.
    pub throttle: Throttle<IpAddr>,
    /// Names for which wrong passwords were tried.
    pub names: Throttle<str>,
    /// Users who signed in.
    pub signed_in: Throttle<str>,
    /// Names for which wrong codes were tried, with the right password.
    pub codes: Throttle<str>,
    /// The set-up link of the first admin.
    setup: std::sync::Mutex<ExpiringMap<Digest, ()>>,
    /// Names and addresses that sent a right password without a code.
    pub without_code: Throttle<str>,
    /// Those of them that are told of.
    pub codeless: Told<(String, IpAddr)>,
    /// Users named by a proxy, per address, that were audited lately.
    pub named: Told<(Arc<str>, IpAddr)>,
    /// Looks at other users' sessions and recordings that were audited lately.
    pub looks: Told<(Arc<str>, SessionId, Action)>,
    /// Pending sign-ins with the provider.
    pub under_way: UnderWay,
    /// Users who tested targets.
    pub trials: Throttle<str>,
    /// Attaches of each user to each session.
    pub attaches: Throttle<str>,
    /// Users who made or revoked tokens.
    pub token_changes: Throttle<str>,
    /// Users who signed out all of their devices.
    pub sign_outs: Throttle<str>,
    /// Users who opened sessions.
    pub opens: Throttle<str>,
    /// Places outside of the catalogue that each user dialled.
    pub(super) dial_limit: DialLimit,
    /// Refused origins that were audited lately.
    pub(super) foreign: Foreign,
    /// Refused opens that were audited lately.
    pub(super) refused_opens: RefusedOpens,
    /// Held while users and targets are changed, so that each change is checked against the result of the one before.
    pub managing: Mutex<()>,
    /// One permit per running password check: each takes 19 MiB and a core for a while.
    pub comparing: Semaphore,
    /// Cached pages of the session list.
    pub pages: Pages,
    /// The open event streams.
    pub(super) event_streams: Arc<Streams>,
}

impl State {
    /// Creates the state of a process that just started.
    pub fn new(gateway: Gateway, settings: Settings) -> Self {
        let opens = gateway.max_per_user().saturating_mul(OPENS_FOR_EACH).max(MAX_OPENS);
        Self {
            gateway,
            settings,
            links: Links::default(),
            own_stamp: OnceLock::new(),
            strays: Throttle::new(MAX_UNKNOWN_COOKIES),
            throttle: Throttle::new(MAX_WRONG_SECRETS),
            names: Throttle::new(TRIES_FOR_A_NAME),
            signed_in: Throttle::new(SIGN_INS),
            codes: Throttle::within(CODES_WITHIN, MAX_WRONG_CODES),
            without_code: Throttle::within(CODES_WITHIN, MAX_WITHOUT_CODE),
            codeless: Told::default(),
            named: Told::default(),
            looks: Told::default(),
            setup: std::sync::Mutex::new(ExpiringMap::new(1)),
            under_way: UnderWay::default(),
            trials: Throttle::new(MAX_TRIALS),
            attaches: Throttle::within(ATTACH_WINDOW, MAX_ATTACHES),
            token_changes: Throttle::new(MAX_TOKEN_CHANGES),
            sign_outs: Throttle::new(MAX_SIGN_OUTS),
            opens: Throttle::within(OPENS_WITHIN, opens),
            dial_limit: DialLimit::default(),
            foreign: Foreign::default(),
            refused_opens: RefusedOpens::default(),
            managing: Mutex::default(),
            comparing: Semaphore::new(MAX_COMPARISONS),
            pages: Pages::default(),
            event_streams: Arc::default(),
        }
    }

    /// Returns the state of the app that serves `request`.
    pub fn of(request: &HttpRequest) -> Result<&web::Data<Self>, Problem> {
        request.app_data::<web::Data<Self>>().ok_or_else(Problem::internal)
    }

    /// Returns the monotonic time now.
    pub fn now(&self) -> Duration {
        (self.settings.clock)()
    }

    /// Creates a path that signs `user` in once, within ten minutes: `/login?once=…`.
    pub fn issue_link(&self, user: &str) -> String {
        format!("/login?once={}", self.links.issue(self.now(), user.into()))
    }

    /// Uses up the secret of such a path and returns the user it signs in.
    pub fn redeem_link(&self, secret: &str) -> Option<Arc<str>> {
        self.links.redeem(self.now(), secret)
    }

    /// Returns both clocks now.
    pub fn times(&self) -> Now {
        Now { at: self.now(), utc: (self.settings.utc)() }
    }

    /// Returns the sign-ins.
    pub fn sign_ins(&self) -> &SignIns {
        self.gateway.people().sign_ins()
    }

    /// Returns the stamp that a sign-in of `user` is bound to: it is valid as long as the stamp stays the same. `None`:
    /// no such user signs in here.
    pub fn stamp(&self, directory: &Directory, user: &str) -> Option<String> {
        match directory.users.get(user) {
            Some(user) => Some(people::stamp(&user.password_hash)),
            None if user == people::ADMIN => self.own_stamp(),
            None => None,
        }
    }

    /// Returns the stamp of the gateway's own token, derived from a hash as for a password; or of the demo.
    pub fn own_stamp(&self) -> Option<String> {
        match &self.settings.admin_token {
            Some(token) => {
                let stamp = || people::stamp(&password::hash(token, OWN_SALT).unwrap_or_default());
                Some(self.own_stamp.get_or_init(stamp).clone())
            }
            None => self.settings.demo.then(|| people::stamp("demo")),
        }
    }

    /// Creates a path by which a user becomes the first admin, once, within half an hour. The secret is behind the `#`,
    /// where no proxy and no proxy's log sees it: `/#/setup/…`.
    pub fn issue_setup(&self) -> String {
        let secret = secret::fresh();
        self.setup().insert(self.now(), secret::digest(&secret), (), SETUP_LIFE);
        format!("/#/setup/{secret}")
    }

    /// Whether `offered` is the secret of the set-up link.
    pub fn is_setup(&self, offered: &str) -> bool {
        self.setup().get_mut(self.now(), &secret::digest(offered)).is_some()
    }

    /// Invalidates the set-up link.
    pub fn end_setup(&self, offered: &str) {
        self.setup().take(self.now(), &secret::digest(offered));
    }

    fn setup(&self) -> MutexGuard<'_, ExpiringMap<Digest, ()>> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `offered` is the admin token; takes equally long for every wrong one.
    pub fn is_admin_token(&self, offered: &str) -> bool {
        let Some(token) = &self.settings.admin_token else { return false };
        secret::digest(token.expose_secret()).ct_eq(&secret::digest(offered)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::fixture::{TOKEN, settings, state_with};

    #[actix_rt::test]
    async fn only_the_admin_token_is_the_admin_token() {
        let state = state_with(settings());
        assert!(state.is_admin_token(TOKEN));
        for wrong in ["", &TOKEN[1..], &TOKEN.to_uppercase(), &format!("{TOKEN} ")] {
            assert!(!state.is_admin_token(wrong), "{wrong:?}");
        }
        assert!(!state_with(Settings { admin_token: None, ..settings() }).is_admin_token(""));
    }
}
