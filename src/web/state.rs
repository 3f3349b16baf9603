//! Owns what every handler holds on to: the gateway, the settings, who is signed in. Knows no route.

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
    secret::{self, Digest},
    throttle::Throttle,
};
use crate::{
    actor::{
        gateway::Gateway,
        sign_ins::{Now, SignIns},
    },
    core::{
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

/// Wrong tokens and passwords from one address: enough for a person who mistypes and a script that is wrongly set up.
const MAX_WRONG_SECRETS: u32 = 10;

/// Cookies from one address that no sign-in has: far more than an office whose sign-ins ended sends, too few to keep the store busy with.
const MAX_UNKNOWN_COOKIES: u32 = 120;

/// The salt of what is kept of the gateway's own token: the same at every gateway, since it is told by nothing else that the token
/// is another one.
const OWN_SALT: [u8; 16] = *b"gateway's token!";

/// Wrong passwords for one name, wherever from: more than one address may try, so that nobody shuts another out alone.
const TRIES_FOR_A_NAME: u32 = 100;

/// Sign-ins of one user within a minute: more than a person makes, too few to keep every gateway reading what their ends change.
const SIGN_INS: u32 = 60;

/// Wrong codes for one name, of whoever knows the password too: a million codes of which three fit are then tried for years.
const MAX_WRONG_CODES: u32 = 10;

/// The while in which these are counted.
const CODES_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Users whom proxies name, by address, that are told to the audit log once an hour; of more some are told oftener.
const MAX_NAMED_USERS: usize = 10_000;

/// The same of those who read the recording of another.
const MAX_READERS: usize = 10_000;

/// Time to leave the terminal for a browser, and no more: whoever reads the link becomes the admin.
const SETUP_LIFE: Duration = Duration::from_secs(30 * 60);

/// Targets that one user may try out within a minute: enough to set one up, too few to knock on doors with.
const MAX_TRIALS: u32 = 6;

/// Passwords that are compared at once.
const MAX_COMPARISONS: usize = 2;

/// What the configuration says about the web layer.
pub struct Settings {
    /// The address listened on; decides which host names are ours.
    pub listen: IpAddr,
    /// Origins besides our own whose pages may talk to us, as browsers spell them: `https://gw.example:8443`.
    pub allowed_origins: Vec<String>,
    /// Where browsers find the gateway, as `https://gw.example`; `None`: where they say they did.
    pub public_url: Option<String>,
    /// Whether this listener speaks TLS itself.
    pub tls: bool,
    /// Peers whose forwarding headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// The catalogue.
    pub targets: Vec<Target>,
    /// The host keys of this gateway.
    pub host_keys: HostKeys,
    /// What to do with a key that is not known, of a host that is not in the catalogue.
    pub host_key_policy: HostKeyPolicy,
    /// Which addresses a target typed by hand may have; `None` when there are no such targets.
    pub adhoc: Option<AddressRule>,
    /// The roles that must sign in with a second factor.
    pub require_totp: Vec<Role>,
    /// The header in which proxies name a user, and the proxies that are believed in that; `None`: no header does.
    pub user_header: Option<UserHeader>,
    /// The provider that signs people in, if one does.
    pub oidc: Option<Oidc>,
    /// The admin token, at least 32 characters.
    pub admin_token: Option<SecretString>,
    /// What seals credentials.
    pub seals: Arc<Seals>,
    /// Where recordings lie.
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

/// How a proxy names the user whom it signed in itself.
#[derive(Debug, Clone)]
pub struct UserHeader {
    /// The header.
    pub name: HeaderName,
    /// The proxies, by the address of their connection.
    pub from: Vec<IpNet>,
}

/// An OpenID Connect provider that signs people in.
pub struct Oidc {
    /// What people call it.
    pub name: String,
    /// What is asked of it.
    pub provider: Provider,
    /// Who somebody is here.
    pub rules: Rules,
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
    /// How the gateway signs in there, tried in this order.
    pub credentials: Vec<Credential>,
    /// The heading it is shown under.
    pub group: Option<String>,
    /// The jump hosts on the way, the first one first.
    pub via: Vec<Hop>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The roles that may open it without a grant.
    pub roles: Vec<Role>,
    /// What to do with a host key that is not known.
    pub host_key_policy: HostKeyPolicy,
}

impl Target {
    /// The same, as far as access goes.
    pub fn listed(&self) -> CatalogueEntry {
        CatalogueEntry { name: self.name.clone(), tags: self.tags.clone(), roles: self.roles.clone() }
    }

    /// The same as a jump host on the way to another.
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

/// What every handler shares; one per process, in [`web::Data`].
pub struct State {
    /// The actors.
    pub gateway: Gateway,
    /// The configuration.
    pub settings: Settings,
    /// Who may sign in by a link.
    links: Links,
    /// What sign-ins by the gateway's own token hold on to.
    own_stamp: OnceLock<String>,
    /// From where cookies came that nobody made.
    pub strays: Throttle<IpAddr>,
    /// Who tried wrong tokens and passwords.
    pub throttle: Throttle<IpAddr>,
    /// For which names wrong passwords were tried.
    pub names: Throttle<str>,
    /// Who signed in.
    pub signed_in: Throttle<str>,
    /// For which names wrong codes were tried, beside the right password.
    pub codes: Throttle<str>,
    /// The link of whoever is to be the first admin.
    setup: std::sync::Mutex<ExpiringMap<Digest, ()>>,
    /// Whom a proxy named, from where: told to the audit log already.
    pub named: std::sync::Mutex<ExpiringMap<(Arc<str>, IpAddr), ()>>,
    /// Who reads which recording of somebody else's: told to the audit log already.
    pub readers: std::sync::Mutex<ExpiringMap<(Arc<str>, SessionId), ()>>,
    /// Sign-ins with the provider that are under way.
    pub under_way: UnderWay,
    /// Who tried targets out.
    pub trials: Throttle<str>,
    /// Who had which places dialled that are in no catalogue.
    pub(super) dial_limit: DialLimit,
    /// What of refused origins was told to the audit log of late.
    pub(super) foreign: Foreign,
    /// Held while users and targets are changed, so that each is held against what the one before it left.
    pub managing: Mutex<()>,
    /// One permit per password that is being compared: each takes 19 MiB and a core for a while.
    pub comparing: Semaphore,
    /// Pages of the session list that still hold.
    pub pages: Pages,
    /// The open event streams.
    pub(super) event_streams: Arc<Streams>,
}

impl State {
    /// Makes the state of a process that just started.
    pub fn new(gateway: Gateway, settings: Settings) -> Self {
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
            named: std::sync::Mutex::new(ExpiringMap::new(MAX_NAMED_USERS)),
            readers: std::sync::Mutex::new(ExpiringMap::new(MAX_READERS)),
            setup: std::sync::Mutex::new(ExpiringMap::new(1)),
            under_way: UnderWay::default(),
            trials: Throttle::new(MAX_TRIALS),
            dial_limit: DialLimit::default(),
            foreign: Foreign::default(),
            managing: Mutex::default(),
            comparing: Semaphore::new(MAX_COMPARISONS),
            pages: Pages::default(),
            event_streams: Arc::default(),
        }
    }

    /// Returns the state that serves `request`.
    pub fn of(request: &HttpRequest) -> Result<&web::Data<Self>, Problem> {
        request.app_data::<web::Data<Self>>().ok_or_else(Problem::internal)
    }

    /// The monotonic time now.
    pub fn now(&self) -> Duration {
        (self.settings.clock)()
    }

    /// Makes a path that signs `user` in once, within ten minutes: `/login?once=…`.
    pub fn issue_link(&self, user: &str) -> String {
        format!("/login?once={}", self.links.issue(self.now(), user.into()))
    }

    /// Uses the secret of such a path up and returns whom it signs in.
    pub fn redeem_link(&self, secret: &str) -> Option<Arc<str>> {
        self.links.redeem(self.now(), secret)
    }

    /// Both clocks now.
    pub fn times(&self) -> Now {
        Now { at: self.now(), utc: (self.settings.utc)() }
    }

    /// Who is signed in.
    pub fn sign_ins(&self) -> &SignIns {
        self.gateway.people().sign_ins()
    }

    /// What a sign-in of `user` holds on to: it is good as long as this stays the same. `None`: nobody of this name signs in here.
    pub fn stamp(&self, directory: &Directory, user: &str) -> Option<String> {
        match directory.users.get(user) {
            Some(user) => Some(people::stamp(&user.password_hash)),
            None if user == people::ADMIN => self.own_stamp(),
            None => None,
        }
    }

    /// That of whoever holds the gateway's own token, of which no more is kept than of a password; or of whoever is let into a demo.
    pub fn own_stamp(&self) -> Option<String> {
        match &self.settings.admin_token {
            Some(token) => {
                let stamp = || people::stamp(&password::hash(token, OWN_SALT).unwrap_or_default());
                Some(self.own_stamp.get_or_init(stamp).clone())
            }
            None => self.settings.demo.then(|| people::stamp("demo")),
        }
    }

    /// Makes a path that lets somebody become the first admin, once, within half an hour. Behind the `#`, where no proxy and no log of
    /// one ever sees it: `/#/setup/…`.
    pub fn issue_setup(&self) -> String {
        let secret = secret::fresh();
        self.setup().insert(self.now(), secret::digest(&secret), (), SETUP_LIFE);
        format!("/#/setup/{secret}")
    }

    /// Whether `offered` is the secret of that link.
    pub fn is_setup(&self, offered: &str) -> bool {
        self.setup().get_mut(self.now(), &secret::digest(offered)).is_some()
    }

    /// Makes that link worthless.
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
