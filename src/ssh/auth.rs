//! Authentication at a target: tries the credentials in their order, by the methods that the target accepts (RFC 4252,
//! RFC 4256). Asks the user for missing secrets; knows no host key and no terminal.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration};

use russh::{
    MethodKind, MethodSet,
    client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Answer},
    keys::{
        self, HashAlg, PrivateKey, PrivateKeyWithHashAlg,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    ConnectError, Credential, Prompt, PromptField, PromptKind, SshSettings, credential_file,
    handler::{Client, Peer},
    own_keys::Purpose,
    person::{Person, clean_line, clean_text},
};

/// Maximum time for a target's answer to one step: sshd's default LoginGraceTime, which leaves time for a phone push.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// Maximum time to learn the target's signature algorithms; russh waits a second for a target that names none.
const HASH_LIMIT: Duration = Duration::from_secs(5);
/// Tries for one password or passphrase, as OpenSSH's NumberOfPasswordPrompts.
pub(super) const MAX_ATTEMPTS: usize = 3;
/// Maximum rounds of questions in one keyboard-interactive exchange.
const MAX_ROUNDS: usize = 20;
/// Maximum questions in one round; a person answers a handful.
const MAX_FIELDS: usize = 32;
/// Maximum keys of an agent that are offered; sshd hangs up after six.
const MAX_AGENT_KEYS: usize = 20;
/// Maximum partial successes in one login, so that a target cannot go on for ever.
const MAX_STAGES: usize = 8;

/// One login on one connection.
pub(super) struct Login<'a> {
    handle: &'a mut Handle<Client>,
    peer: &'a Peer,
    login: &'a str,
    person: &'a Person,
    settings: &'a SshSettings,
    on_behalf: &'a str,
    purpose: Purpose,
    accepted: MethodSet,
    tried: Vec<String>,
    unusable: Option<ConnectError>,
}

enum Step {
    In,
    Partial,
    Refused,
}

impl<'a> Login<'a> {
    /// Prepares a login as `login` over `handle`; `on_behalf` names the user and the session that it is for.
    pub(super) fn new(
        handle: &'a mut Handle<Client>,
        peer: &'a Peer,
        login: &'a str,
        person: &'a Person,
        settings: &'a SshSettings,
        on_behalf: &'a str,
        purpose: Purpose,
    ) -> Self {
        let (accepted, tried) = (MethodSet::empty(), Vec::new());
        Self { handle, peer, login, person, settings, on_behalf, purpose, accepted, tried, unusable: None }
    }

    /// Tries `credentials` in their order, each if the target accepts its method. A credential of the gateway that
    /// cannot be used is skipped; it is the error if nothing else was tried.
    pub(super) async fn run(mut self, credentials: Vec<Credential>) -> Result<(), ConnectError> {
        if let Step::In = self.none().await? {
            return Ok(());
        }
        let mut waiting = VecDeque::from(credentials);
        let mut stages = 0;
        while let Some(at) = waiting.iter().position(|credential| self.is_of_use(credential)) {
            let Some(credential) = waiting.remove(at) else { break };
            let step = match &credential {
                Credential::KeyFile(path) => self.key_file(path).await,
                Credential::Password(password) => self.password(password).await,
                Credential::PasswordFile(path) => match credential_file::first_line(path).await {
                    Ok(password) => self.password(&password).await,
                    Err(error) => Err(error),
                },
                Credential::SealedPassword(sealed) => match sealed.secret() {
                    Ok(password) => self.password(&password).await,
                    Err(error) => Err(error),
                },
                Credential::SealedKey(sealed) => match sealed.private_key() {
                    Ok(key) => self.offer(key).await,
                    Err(error) => Err(error),
                },
                Credential::Agent => self.agent().await,
                Credential::GatewayKey => match self.settings.own.own().await {
                    Ok(key) => self.offer(key).await,
                    Err(error) => Err(error),
                },
                Credential::Certificate => self.certificate().await,
                Credential::Prompt => self.prompt().await,
            };
            match step {
                Ok(Step::In) => return Ok(()),
                Ok(Step::Partial) if stages < MAX_STAGES => {
                    stages += 1;
                    if matches!(credential, Credential::Prompt) {
                        waiting.push_back(credential);
                    }
                }
                Ok(Step::Partial | Step::Refused) => {}
                Err(error @ ConnectError::Credential { .. }) => {
                    tracing::warn!(%error, "a credential cannot be used; the next one is tried");
                    self.unusable = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.refusal())
    }

    fn refusal(self) -> ConnectError {
        if let Some(error) = self.unusable.filter(|_| self.tried.is_empty()) {
            return error;
        }
        let names = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
        let accepted: Vec<String> = self.accepted.iter().map(String::from).collect();
        let said = self.peer.last_words().map(|words| format!(" (it said: {words})")).unwrap_or_default();
        ConnectError::AuthFailed {
            login: clean_line(self.login),
            tried: names(&self.tried),
            accepted: names(&accepted) + &said,
        }
    }

    fn accepts(&self, method: MethodKind) -> bool {
        self.accepted.contains(&method)
    }

    fn is_of_use(&self, credential: &Credential) -> bool {
        match credential {
            Credential::KeyFile(_)
            | Credential::SealedKey(_)
            | Credential::Agent
            | Credential::GatewayKey
            | Credential::Certificate => self.accepts(MethodKind::PublicKey),
            Credential::Password(_)
            | Credential::PasswordFile(_)
            | Credential::SealedPassword(_)
            | Credential::Prompt => self.accepts(MethodKind::Password) || self.accepts(MethodKind::KeyboardInteractive),
        }
    }

    /// Waits for the target's answer to one step.
    async fn answer<T>(peer: &Peer, step: impl Future<Output = Result<T, russh::Error>>) -> Result<T, ConnectError> {
        match timeout(STEP_LIMIT, peer.listen(step)).await {
            Ok(answer) => answer.map_err(|error| peer.broken(&error)),
            Err(_) => Err(ConnectError::TimedOut { addr: peer.addr.clone(), seconds: STEP_LIMIT.as_secs() }),
        }
    }

    fn step(&mut self, result: AuthResult) -> Step {
        match result {
            AuthResult::Success => Step::In,
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.accepted = remaining_methods;
                if partial_success { Step::Partial } else { Step::Refused }
            }
        }
    }

    fn note(&mut self, what: &str) {
        if !self.tried.iter().any(|tried| tried == what) {
            self.tried.push(what.to_owned());
        }
    }

    /// Learns the accepted methods; logs in if the target needs no authentication (RFC 4252 §5.2).
    async fn none(&mut self) -> Result<Step, ConnectError> {
        let result = Self::answer(self.peer, self.handle.authenticate_none(self.login)).await?;
        if result != AuthResult::Success && self.handle.is_closed() {
            return Err(self.peer.broken(&russh::Error::Disconnect));
        }
        Ok(self.step(result))
    }

    /// Returns the strongest RSA hash the target accepts; `None` if only SHA-1, which is never used. Its list comes
    /// right after its keys (RFC 8308 §2.4), so nothing more is read for it; without a list it is SHA-256.
    async fn rsa_hash(&mut self) -> Result<Option<HashAlg>, ConnectError> {
        let said = timeout(HASH_LIMIT, self.handle.best_supported_rsa_hash()).await.unwrap_or(Ok(None));
        Ok(said.map_err(|error| self.peer.broken(&error))?.unwrap_or(Some(HashAlg::Sha256)))
    }

    async fn key_file(&mut self, path: &Path) -> Result<Step, ConnectError> {
        let Some(key) = credential_file::private_key(path, self.person).await? else {
            self.note("publickey (no passphrase given)");
            return Ok(Step::Refused);
        };
        self.offer(key).await
    }

    /// Authenticates with a private key.
    async fn offer(&mut self, key: PrivateKey) -> Result<Step, ConnectError> {
        let hash = if key.algorithm().is_rsa() { self.rsa_hash().await? } else { None };
        if key.algorithm().is_rsa() && hash.is_none() {
            self.note("publickey (the target takes RSA keys only with SHA-1)");
            return Ok(Step::Refused);
        }
        self.note("publickey");
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let result = Self::answer(self.peer, self.handle.authenticate_publickey(self.login, key)).await?;
        Ok(self.step(result))
    }

    async fn certificate(&mut self) -> Result<Step, ConnectError> {
        let now = (self.settings.utc)();
        let (key, certificate) = self.settings.own.certify(self.login, self.on_behalf, self.purpose, now).await?;
        self.note("publickey (certificate)");
        let attempt = self.handle.authenticate_openssh_cert(self.login, Arc::new(key), certificate);
        let result = Self::answer(self.peer, attempt).await?;
        Ok(self.step(result))
    }

    async fn agent(&mut self) -> Result<Step, ConnectError> {
        let failed = |cause: String| ConnectError::Credential { cause: format!("the SSH agent {cause}") };
        let socket = self
            .settings
            .agent
            .as_deref()
            .ok_or_else(|| failed("is not there: SSH_AUTH_SOCK is not set".to_owned()))?;
        let broken = |error: keys::Error| failed(format!("does not answer ({error})"));
        let mut agent = AgentClient::connect_uds(socket).await.map_err(broken)?;
        let identities = agent.request_identities().await.map_err(broken)?;
        if identities.is_empty() {
            return Err(failed("holds no keys".to_owned()));
        }
        self.note("publickey (agent)");
        for identity in identities.into_iter().take(MAX_AGENT_KEYS) {
            let is_rsa = match &identity {
                AgentIdentity::PublicKey { key, .. } => key.algorithm().is_rsa(),
                AgentIdentity::Certificate { certificate, .. } => certificate.algorithm().is_rsa(),
            };
            let hash = if is_rsa { self.rsa_hash().await? } else { None };
            if is_rsa && hash.is_none() {
                continue;
            }
            let login = self.login;
            let attempt = async {
                match identity {
                    AgentIdentity::PublicKey { key, .. } => {
                        self.handle.authenticate_publickey_with(login, key, hash, &mut agent).await
                    }
                    AgentIdentity::Certificate { certificate, .. } => {
                        self.handle.authenticate_certificate_with(login, certificate, hash, &mut agent).await
                    }
                }
            };
            let result = match timeout(STEP_LIMIT, self.peer.listen(attempt)).await {
                Ok(Ok(result)) => result,
                // The agent refused to sign with this key: the next one is tried.
                Ok(Err(error)) => {
                    tracing::info!(%error, "the SSH agent did not sign; its next key is tried");
                    continue;
                }
                Err(_) => return Err(failed("did not sign in time".to_owned())),
            };
            match self.step(result) {
                Step::Refused if self.accepts(MethodKind::PublicKey) => {}
                step => return Ok(step),
            }
        }
        Ok(Step::Refused)
    }

    /// Sends a password, as such or as the answer to a single question without echo.
    async fn password(&mut self, password: &SecretString) -> Result<Step, ConnectError> {
        if password.expose_secret().is_empty() {
            return Err(ConnectError::Credential { cause: "the password is empty".to_owned() });
        }
        if self.accepts(MethodKind::Password) {
            return self.send_password(password).await;
        }
        self.note("keyboard-interactive");
        let mut given = false;
        self.converse(async |_, _, fields| match fields {
            [] => Some(Vec::new()),
            [only] if !only.echo && !std::mem::replace(&mut given, true) => Some(vec![password.clone()]),
            _ => None,
        })
        .await
        .map(|talk| talk.step)
    }

    async fn send_password(&mut self, password: &SecretString) -> Result<Step, ConnectError> {
        self.note("password");
        let attempt = self.handle.authenticate_password(self.login, password.expose_secret());
        let result = Self::answer(self.peer, attempt).await?;
        Ok(self.step(result))
    }

    async fn prompt(&mut self) -> Result<Step, ConnectError> {
        let mut asked = false;
        for _ in 0..MAX_ATTEMPTS {
            if !self.accepts(MethodKind::KeyboardInteractive) {
                break;
            }
            self.note("keyboard-interactive");
            let person = self.person.clone();
            let talk =
                self.converse(async |title, text, fields| ask_questions(&person, title, text, fields).await).await?;
            match talk.step {
                Step::Refused if talk.declined => return Ok(Step::Refused),
                // Offered, but the target asked no question: some do so for an account without a password.
                Step::Refused if !talk.asked => break,
                Step::Refused => asked = true,
                step => return Ok(step),
            }
        }
        if asked { Ok(Step::Refused) } else { self.prompt_password().await }
    }

    async fn prompt_password(&mut self) -> Result<Step, ConnectError> {
        for attempt in 0..MAX_ATTEMPTS {
            if !self.accepts(MethodKind::Password) {
                break;
            }
            let prompt = Prompt {
                kind: PromptKind::Password,
                title: format!("{} at {}", clean_line(self.login), self.peer.host),
                text: if attempt == 0 { String::new() } else { "That was not accepted.".to_owned() },
                fields: vec![PromptField { label: "Password:".to_owned(), echo: false }],
            };
            let Some(answers) = self.person.ask(prompt).await else { break };
            let Some(password) = answers.first() else { break };
            match self.send_password(password).await? {
                Step::Refused => {}
                step => return Ok(step),
            }
        }
        Ok(Step::Refused)
    }

    /// Runs one keyboard-interactive exchange; `reply` returns the answers of one round, or `None` to give up.
    async fn converse(
        &mut self,
        mut reply: impl AsyncFnMut(&str, &str, &[PromptField]) -> Option<Vec<SecretString>>,
    ) -> Result<Talk, ConnectError> {
        let start = self.handle.authenticate_keyboard_interactive_start(self.login, None);
        let mut answer = Self::answer(self.peer, start).await?;
        let (mut asked, mut declined) = (false, false);
        for _ in 0..MAX_ROUNDS {
            let (name, instructions, prompts) = match answer {
                Answer::Success => return Ok(Talk { step: Step::In, asked, declined }),
                Answer::Failure { remaining_methods, partial_success } => {
                    let step = self.step(AuthResult::Failure { remaining_methods, partial_success });
                    return Ok(Talk { step, asked, declined });
                }
                Answer::InfoRequest { name, instructions, prompts } => (name, instructions, prompts),
            };
            if prompts.len() > MAX_FIELDS {
                return Err(self.peer.broken_by(format!("it asks {} questions at once", prompts.len())));
            }
            let count = prompts.len();
            asked |= count > 0;
            let fields: Vec<_> = prompts
                .into_iter()
                .map(|prompt| PromptField { label: clean_line(&prompt.prompt), echo: prompt.echo })
                .collect();
            let values = reply(&clean_line(&name), &clean_text(&instructions), &fields).await;
            declined |= values.is_none();
            // A round must be answered even to give up (RFC 4256 §3.4), and with as many values as it has questions.
            let values = values.unwrap_or_else(|| vec![SecretString::default(); count]);
            let values = values.iter().map(|value| value.expose_secret().to_owned()).collect();
            answer = Self::answer(self.peer, self.handle.authenticate_keyboard_interactive_respond(values)).await?;
            if declined && matches!(answer, Answer::InfoRequest { .. }) {
                return Err(self.peer.broken_by("it goes on asking after a refusal".to_owned()));
            }
        }
        Err(self.peer.broken_by(format!("it asks more than {MAX_ROUNDS} times")))
    }
}

struct Talk {
    step: Step,
    asked: bool,
    declined: bool,
}

async fn ask_questions(person: &Person, title: &str, text: &str, fields: &[PromptField]) -> Option<Vec<SecretString>> {
    let (title, text) = (title.to_owned(), text.to_owned());
    if fields.is_empty() {
        person.tell([title, text].join(" ").trim().to_owned());
        return Some(Vec::new());
    }
    person.ask(Prompt { kind: PromptKind::KeyboardInteractive, title, text, fields: fields.to_vec() }).await
}
