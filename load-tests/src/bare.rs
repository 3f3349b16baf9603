//! A bare SSH client: russh as its documentation uses it, without a gateway. Knows nothing of Pulsegate.

use std::{borrow::Cow, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use russh::{
    Channel, ChannelMsg, Preferred, cipher,
    client::{self, Config, Handle, Msg},
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key},
};

use crate::{
    shell::{self, Shell},
    target::Place,
};

/// A shell on a terminal of the target.
pub struct Bare {
    channel: Channel<Msg>,
    /// Kept because dropping the handle closes the connection.
    _handle: Handle<Trusting>,
}

/// Accepts the host key of a server that this program has started itself.
struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Bare {
    /// Connects and waits for the prompt.
    pub async fn open(place: impl Into<Place>) -> Result<Self> {
        Self::open_kept_alive(place, None).await
    }

    /// Like [`Bare::open`], and sends a keepalive after this much silence from the target.
    pub async fn open_kept_alive(place: impl Into<Place>, keepalive_interval: Option<Duration>) -> Result<Self> {
        let Place { addr, user, key } = place.into();
        let config = Config {
            nodelay: true,
            keepalive_interval,
            // The gateway's first choice, so that both sides do the same cryptographic work.
            preferred: Preferred {
                cipher: Cow::Borrowed(&[cipher::AES_128_GCM, cipher::AES_256_GCM]),
                ..Preferred::DEFAULT
            },
            ..Config::default()
        };
        let mut handle = client::connect(Arc::new(config), addr, Trusting).await?;
        let signed_in = match key {
            None => handle.authenticate_none(user).await?,
            Some(path) => {
                let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(path, None)?), None);
                handle.authenticate_publickey(user, key).await?
            }
        };
        ensure!(signed_in.success(), "the target lets nobody in");
        let channel = handle.channel_open_session().await?;
        channel.request_pty(false, "xterm-256color", 80, 24, 0, 0, &[]).await?;
        channel.request_shell(false).await?;
        let mut bare = Self { channel, _handle: handle };
        shell::hear_until(&mut bare, shell::PROMPT).await.context("the bare client")?;
        Ok(bare)
    }
}

impl Shell for Bare {
    async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.channel.data_bytes(Bytes::copy_from_slice(bytes)).await?)
    }

    async fn hear(&mut self) -> Result<Bytes> {
        loop {
            match self.channel.wait().await {
                Some(ChannelMsg::Data { data }) if !data.is_empty() => return Ok(data),
                Some(_) => {}
                None => bail!("the target has hung up"),
            }
        }
    }
}
