//! Asks an OpenID Connect provider for its endpoints, its keys, and the tokens for a code. Caches its metadata for an
//! hour; the core interprets the answers.

use std::{sync::Arc, time::Duration};

use awc::{ClientRequest, http::header};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::kind;
use crate::core::{
    oidc::{
        Rules, completed,
        provider::{self, Client, Endpoints, Flow, TokenResponse, Unusable},
        token::{Expected, IdToken, Keys, Rejected, SignedOut},
    },
    record::UtcMicros,
};

/// Maximum time for one answer; a page waits for three of them, 15 s.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Maximum size of an answer in bytes: key sets and tokens with groups have some tens of KiB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Time that a provider's metadata and keys are cached: keys that it withdrew sign no user in for longer.
const CACHE_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Time without another request after it did not answer: users who wait for it do not make it slower.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Minimum age of the cached keys before they are fetched anew for a token whose key is not among them.
const KEYS_AGAIN: Duration = Duration::from_secs(10);

/// The reason why a sign-in fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The provider does not answer, or its answer cannot be understood.
    #[error("{0}")]
    Away(String),
    /// The provider's metadata cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The provider refused the code.
    #[error("it did not take the code ({0})")]
    Refused(String),
    /// The provider's token is invalid.
    #[error("its token counts for nothing: {0}")]
    Rejected(#[from] Rejected),
}

/// An OpenID Connect provider.
pub struct Provider {
    client: Client,
    clock: fn() -> Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    endpoints: Option<(Duration, Arc<Endpoints>)>,
    keys: Option<(Duration, Arc<Keys>)>,
    failed: Option<(Duration, Failure)>,
}

impl Provider {
    /// Returns the provider that knows this gateway as `client`. Sends no request before a user signs in. `clock` is
    /// the clock of every `now`.
    pub fn new(client: Client, clock: fn() -> Duration) -> Self {
        Self { client, clock, known: Mutex::default() }
    }

    /// Returns this gateway as the provider knows it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the provider's endpoints. `now` is monotonic.
    ///
    /// # Errors
    /// [`Failure`] if the provider does not tell them.
    pub async fn endpoints(&self, now: Duration) -> Result<Arc<Endpoints>, Failure> {
        let mut known = self.known.lock().await;
        if let Some((at, endpoints)) = &known.endpoints
            && now < *at + CACHE_LIFETIME
        {
            return Ok(endpoints.clone());
        }
        known.may_ask(now)?;
        let read = async {
            let request = super::client(ANSWERS_WITHIN).get(self.client.discovery());
            Ok(self.client.read(&told(request).await?)?)
        };
        let endpoints = Arc::new(known.noted(read.await, self.clock)?);
        known.endpoints = Some((now, endpoints.clone()));
        Ok(endpoints)
    }

    /// Returns the user who signs in with `code`, with all claims that `rules` need.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn told(
        &self,
        (now, utc): (Duration, UtcMicros),
        flow: &Flow,
        code: &SecretString,
        rules: &Rules,
    ) -> Result<IdToken, Failure> {
        let endpoints = self.endpoints(now).await?;
        let TokenResponse { id_token, access_token } = self.trade(&endpoints, flow, code).await?;
        let verify = |keys: &Keys| keys.verify(id_token.expose_secret(), &self.expected(utc), &flow.nonce);
        let told = self.verified(now, &endpoints, verify).await?;
        match (endpoints.userinfo.as_ref(), access_token) {
            (Some(address), Some(access)) if rules.lack(&told.claims) => ask_for_more(address, &access, told).await,
            _ => Ok(told),
        }
    }

    /// Verifies a logout token of the provider and returns whom it signs out.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn signed_out(
        &self,
        (now, utc): (Duration, UtcMicros),
        token: &SecretString,
    ) -> Result<SignedOut, Failure> {
        let endpoints = self.endpoints(now).await?;
        self.verified(now, &endpoints, |keys| keys.signed_out(token.expose_secret(), &self.expected(utc))).await
    }

    fn expected(&self, now: UtcMicros) -> Expected<'_> {
        Expected { issuer: &self.client.issuer, client_id: &self.client.id, now }
    }

    /// Verifies a token with the provider's keys, which are fetched anew if the token's key is not among them.
    async fn verified<T>(
        &self,
        now: Duration,
        endpoints: &Endpoints,
        verify: impl Fn(&Keys) -> Result<T, Rejected>,
    ) -> Result<T, Failure> {
        match verify(&*self.keys(now, endpoints, CACHE_LIFETIME).await?) {
            Err(Rejected::UnknownKey) => Ok(verify(&*self.keys(now, endpoints, KEYS_AGAIN).await?)?),
            outcome => Ok(outcome?),
        }
    }

    async fn trade(&self, endpoints: &Endpoints, flow: &Flow, code: &SecretString) -> Result<TokenResponse, Failure> {
        let mut request = super::client(ANSWERS_WITHIN)
            .post(&endpoints.token)
            .insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded"));
        if !endpoints.secret_in_body {
            request = request.insert_header((header::AUTHORIZATION, self.client.authorization().expose_secret()));
        }
        let body = flow.trade(&self.client, endpoints, code);
        let body = Bytes::copy_from_slice(body.expose_secret().as_bytes());
        match answer(request, Some(body)).await? {
            (200, body) => provider::token_response(&body)
                .ok_or_else(|| Failure::Away("it gave no ID token for the code".to_owned())),
            (status, body) => {
                let word = provider::refusal(&body).map(Failure::Refused);
                Err(word.unwrap_or_else(|| strange(status)))
            }
        }
    }

    /// Returns the provider's keys, cached for at most `kept`.
    async fn keys(&self, now: Duration, endpoints: &Endpoints, kept: Duration) -> Result<Arc<Keys>, Failure> {
        let mut known = self.known.lock().await;
        if let Some((at, keys)) = &known.keys
            && now < *at + kept
        {
            return Ok(keys.clone());
        }
        known.may_ask(now)?;
        let read = async {
            let body = told(super::client(ANSWERS_WITHIN).get(&endpoints.keys)).await?;
            Keys::read(&body).ok_or_else(|| Failure::Away("its keys cannot be read".to_owned()))
        };
        let keys = Arc::new(known.noted(read.await, self.clock)?);
        known.keys = Some((now, keys.clone()));
        Ok(keys)
    }
}

impl Known {
    /// Fails for a while after the provider did not answer.
    fn may_ask(&self, now: Duration) -> Result<(), Failure> {
        match &self.failed {
            Some((at, failure)) if now < *at + RETRY_DELAY => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Notes the outcome of a request. The pause counts from the moment of the failure: counted from the request, one
    /// that failed after as long as the pause would leave none.
    fn noted<T>(&mut self, outcome: Result<T, Failure>, clock: fn() -> Duration) -> Result<T, Failure> {
        self.failed = outcome.as_ref().err().map(|failure| (clock(), failure.clone()));
        outcome
    }
}

/// Adds the claims that the provider tells on request (userinfo); those of the token stay where it tells none.
async fn ask_for_more(address: &str, access: &SecretString, told: IdToken) -> Result<IdToken, Failure> {
    let bearer = format!("Bearer {}", access.expose_secret());
    let request = super::client(ANSWERS_WITHIN).get(address).insert_header((header::AUTHORIZATION, bearer));
    let body = self::told(request).await?;
    let more = provider::told_of(&told.subject, &body);
    let more = more.ok_or_else(|| Failure::Away("what it tells on request is not about the same person".to_owned()))?;
    Ok(IdToken { claims: completed(told.claims, more), ..told })
}

/// Returns the body of the answer to a request that must succeed.
async fn told(request: ClientRequest) -> Result<Bytes, Failure> {
    match answer(request, None).await? {
        (200, body) => Ok(body),
        (status, _) => Err(strange(status)),
    }
}

fn strange(status: u16) -> Failure {
    Failure::Away(format!("it answered with the status {status}"))
}

/// Returns the status and the body of an answer, within its maximum time and size.
async fn answer(request: ClientRequest, body: Option<Bytes>) -> Result<(u16, Bytes), Failure> {
    let request = request.insert_header((header::ACCEPT, "application/json"));
    let asked = async {
        let sent = match body {
            Some(body) => request.send_body(body),
            None => request.send(),
        };
        let mut response = sent.await.map_err(|error| Failure::Away(kind(&error).to_owned()))?;
        let status = response.status();
        let body = response.body().limit(MAX_ANSWER_BYTES).await;
        let body = body.map_err(|_| Failure::Away("its answer is too long, or broke off".to_owned()))?;
        Ok((status.as_u16(), body))
    };
    let late = |_| Failure::Away("it did not answer in time".to_owned());
    tokio::time::timeout(ANSWERS_WITHIN, asked).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    thread_local! {
        static BEGAN: Instant = Instant::now();
    }

    fn clock() -> Duration {
        BEGAN.with(|began| began.elapsed())
    }

    #[actix_rt::test]
    async fn who_does_not_answer_is_left_alone_for_a_while_behind_that() {
        tokio::time::pause();
        let began = clock();
        // It accepts connections and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            id: "gw".to_owned(),
            secret: "s".into(),
            scopes: vec![],
        };
        let provider = Provider::new(client, clock);
        let late = provider.endpoints(clock()).await.unwrap_err();
        let failed = clock();
        assert!(failed >= began + ANSWERS_WITHIN, "{late}");
        for now in [failed, failed + RETRY_DELAY / 2] {
            assert_eq!(provider.endpoints(now).await.unwrap_err(), late);
        }
        assert_eq!(clock(), failed, "nobody was asked");
        assert!(provider.endpoints(failed + RETRY_DELAY).await.is_err());
        assert!(clock() > failed, "it is asked again");
    }
}
