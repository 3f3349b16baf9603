//! A user signed in at the gateway under test, with a cookie as a browser has it. Knows no terminal.

use anyhow::{Context, anyhow, ensure};
use awc::{
    Client,
    http::{Method, header},
};
use serde_json::{Value, json};

use super::page::Page;

/// Maximum size of a frame in bytes: the gateway's window.
const MAX_FRAME: usize = 1024 * 1024;

/// A signed-in user.
pub struct Visitor {
    client: Client,
    origin: String,
    cookie: String,
}

impl Visitor {
    /// Signs in with a one-time link, which uses it up.
    pub async fn sign_in(link: &str) -> anyhow::Result<Self> {
        let end = link.find("/login").context("the link leads nowhere")?;
        let origin = link.get(..end).unwrap_or_default().to_owned();
        let client = Client::builder().disable_redirects().finish();
        let answer = client.get(link).send().await.map_err(|error| anyhow!("{error}"))?;
        let cookie = answer.headers().get(header::SET_COOKIE).context("the link does not sign in")?;
        let cookie = cookie.to_str()?.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { client, origin, cookie })
    }

    /// Sends a request to the API; returns the body of the answer.
    pub async fn asks(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self
            .client
            .request(method.parse::<Method>()?, format!("{}{path}", self.origin))
            .insert_header((header::ORIGIN, self.origin.clone()))
            .insert_header((header::COOKIE, self.cookie.clone()));
        let sending = match body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        let mut answer = sending.await.map_err(|error| anyhow!("{method} {path}: {error}"))?;
        let told = answer.body().await.map_err(|error| anyhow!("{method} {path}: {error}"))?;
        let status = answer.status();
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&told));
        Ok(serde_json::from_slice(&told)?)
    }

    /// Opens a session on the gateway's own target; returns its id.
    pub async fn opens(&self) -> anyhow::Result<String> {
        let opened = self.asks("POST", "/api/v1/sessions", Some(&json!({ "target": "playground" }))).await?;
        opened.get("id").and_then(Value::as_str).map(str::to_owned).context("the answer names no session")
    }

    /// Attaches `page` to a session, for the first time or again after a cut.
    pub async fn attaches(&self, page: &mut Page, id: &str) -> anyhow::Result<()> {
        let request = self
            .client
            .ws(format!("{}/api/v1/sessions/{id}/terminal", self.origin))
            .origin(self.origin.clone())
            .set_header(header::COOKIE, self.cookie.clone())
            .protocols(["pulsegate.v1"])
            .max_frame_size(MAX_FRAME);
        let (_, socket) = request.connect().await.map_err(|error| anyhow!("{error}"))?;
        page.attaches(socket).await
    }
}
