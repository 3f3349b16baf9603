//! The way to a target: every hop is dialled through the one before it, shows its own host key and receives its own
//! credentials: address, key exchange, host key, login, in this order. Knows no terminal.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::LocalBoxFuture;
use russh::{
    ChannelOpenFailure,
    client::{self, Handle},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    ConnectError, Dial, Hop, SshSettings, Step, address,
    auth::Login,
    client::config,
    handler::{Client, Peer, Presented},
    hostkeys::{KnownHosts, Verdict, fingerprint, name_of},
    own_keys::Purpose,
    person::{Person, clean_line},
    trust::HostKeyCheck,
    tunnel::Tunnel,
    valve::{CutOnDrop, Valve},
    waiting::Encounter,
};

/// The originator address and port that jump hosts are given for a forwarded connection (RFC 4254 §7.2): this gateway
/// itself.
const ORIGIN: (&str, u32) = ("127.0.0.1", 0);

/// An authenticated SSH connection. Dropping it cuts it off.
pub(super) struct Connection {
    pub(super) handle: Handle<Client>,
    pub(super) peer: Peer,
    pub(super) guard: CutOnDrop,
    /// Fails once russh's task is gone.
    pub(super) ended: watch::Receiver<()>,
}

/// Connects hop by hop and returns the connections; the last one is the target's, and each runs inside the one before
/// it.
pub(super) async fn walk(settings: &SshSettings, dial: &Dial) -> Result<Vec<Connection>, ConnectError> {
    let stops: Vec<_> = dial.via.iter().map(Stop::on_the_way).chain([Stop::target(dial)]).collect();
    let names: Vec<_> = stops.iter().map(|stop| name_of(&stop.to.host, stop.to.port)).collect();
    let mut way: Vec<Connection> = Vec::with_capacity(stops.len());
    for (stop, name) in stops.iter().zip(&names) {
        let before = way.last().zip(way.len().checked_sub(1).and_then(|at| dial.via.get(at)));
        let person = Person::new(dial.events.clone(), stop.hop().map(str::to_owned));
        let approach = Approach { settings, stop, name, names: &names, person: &person, dial, before };
        way.push(approach.run().await.map_err(|error| error.at(stop.hop()))?);
    }
    Ok(way)
}

/// One SSH server on the way.
struct Stop<'a> {
    to: &'a Hop,
    is_target: bool,
    heard: Arc<dyn Fn() + Send + Sync>,
}

impl<'a> Stop<'a> {
    fn on_the_way(to: &'a Hop) -> Self {
        // A sign of life of a jump host is no proof that the target lives.
        Self { to, is_target: false, heard: Arc::new(|| {}) }
    }

    fn target(dial: &'a Dial) -> Self {
        Self { to: &dial.to, is_target: true, heard: dial.heard.clone() }
    }

    /// Returns the jump host's name; `None` is the target.
    fn hop(&self) -> Option<&'a str> {
        (!self.is_target).then_some(self.to.name.as_str())
    }

    /// Returns host and port as the hop before it is asked to dial them.
    fn addr(&self) -> String {
        let (host, port) = (clean_line(&self.to.host), self.to.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// The set-up of the connection to one stop.
struct Approach<'a> {
    settings: &'a SshSettings,
    stop: &'a Stop<'a>,
    /// The stop's name in known_hosts.
    name: &'a str,
    /// The names of all stops of the way.
    names: &'a [String],
    person: &'a Person,
    dial: &'a Dial,
    /// The hop that it is reached through; `None` is the network.
    before: Option<(&'a Connection, &'a Hop)>,
}

/// A server that has shown its host key and waits for the verdict.
struct Greeting {
    peer: Peer,
    presented: Presented,
    handshake: LocalBoxFuture<'static, Result<Handle<Client>, russh::Error>>,
    guard: CutOnDrop,
    ended: watch::Receiver<()>,
}

impl Approach<'_> {
    async fn run(&self) -> Result<Connection, ConnectError> {
        let (settings, stop, to, person) = (self.settings, self.stop, self.stop.to, self.person);
        // Read anew for each hop: a key accepted at the one before counts here.
        let known = settings.host_keys.read().await?;
        let mut where_to = self.name.to_owned();
        let reached = timeout(settings.connect_timeout, self.reach(&known, &mut where_to)).await;
        let mut greeting = reached
            .map_err(|_| ConnectError::TimedOut { addr: where_to, seconds: settings.connect_timeout.as_secs() })??;

        (self.dial.passed)(Step::KeyExchange);
        let met = Encounter { host: &to.host, port: to.port, target: &to.name, by: &self.dial.caller };
        self.check_binding(&known, &greeting.presented, met)?;
        let check =
            HostKeyCheck { host_keys: &settings.host_keys, person, name: self.name, policy: to.host_key_policy, met };
        check.run(&known, &greeting.presented.key).await?;
        // The receiver is gone only if the connection is: the handshake then reports it.
        let told = greeting.presented.accepted.send(true);
        tracing::trace!(heard = told.is_ok(), "host key accepted");
        let peer = greeting.peer;
        let mut handle = greeting.handshake.as_mut().await.map_err(|error| peer.no_agreement(&error))?;
        (self.dial.passed)(Step::HostKey);

        person.tell(format!("logging in as {}", clean_line(&to.login)));
        let on_behalf = format!("{}:{}", self.dial.caller, self.dial.session);
        let purpose = if stop.is_target { Purpose::Terminal } else { Purpose::Forwarding };
        let login = Login::new(&mut handle, &peer, &to.login, person, settings, &on_behalf, purpose);
        login.run(to.credentials.clone()).await?;
        (self.dial.passed)(Step::Login);
        greeting.guard.0.open();
        Ok(Connection { handle, peer, guard: greeting.guard, ended: greeting.ended })
    }

    /// Connects and exchanges keys until the server shows its host key; `where_to` always names the address in
    /// progress.
    async fn reach(&self, known: &KnownHosts, where_to: &mut String) -> Result<Greeting, ConnectError> {
        let Hop { host, port, allowed, .. } = self.stop.to;
        let (port, allowed) = (*port, allowed.as_ref());
        let Some((before, hop)) = self.before else {
            let addrs = address::resolve(host, port, allowed).await?;
            (self.dial.passed)(Step::Resolve);
            *where_to = addrs.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
            self.person.tell(format!("connecting to {where_to}"));
            let (stream, addr) = address::connect(&addrs, self.settings.connect_timeout).await?;
            (self.dial.passed)(Step::Connect);
            *where_to = addr.to_string();
            return self.greet(stream, where_to.clone(), known).await;
        };
        address::check_behind_hop(host, port, allowed)?;
        *where_to = self.stop.addr();
        self.person.tell(format!("connecting to {where_to} through {}", hop.name));
        let opened = before.handle.channel_open_direct_tcpip(host.as_str(), port.into(), ORIGIN.0, ORIGIN.1).await;
        let channel = opened.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(why) => {
                ConnectError::NotForwarded { hop: hop.name.clone(), to: where_to.clone(), cause: not_forwarded(&why) }
            }
            error => before.peer.broken(&error).at(Some(&hop.name)),
        })?;
        (self.dial.passed)(Step::Connect);
        self.greet(Tunnel::new(channel.into_stream()), where_to.clone(), known).await
    }

    async fn greet<S>(&self, stream: S, addr: String, known: &KnownHosts) -> Result<Greeting, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (valve, valve_control) = Valve::new(stream, self.stop.heard.clone());
        // From here on the end of the dial ends the connection, whatever its cause.
        let guard = CutOnDrop(valve_control);
        let (show, shown) = oneshot::channel();
        let (alive, ended) = watch::channel(());
        let peer = Peer::new(addr, &self.stop.to.host, guard.0.clone());
        let client = Client::new(show, self.person.clone(), &peer, alive);
        let config = Arc::new(config(known, self.name));
        let mut handshake: LocalBoxFuture<'static, _> = Box::pin(client::connect_stream(config, valve, client));
        let presented = tokio::select! {
            biased;
            Ok(presented) = shown => presented,
            result = &mut handshake => return Err(match result {
                Err(error) => peer.no_agreement(&error),
                Ok(_) => peer.broken_by("it showed no host key".to_owned()),
            }),
        };
        Ok(Greeting { peer, presented, handshake, guard, ended })
    }

    /// Refuses a key that belongs to another hop of the way: a server that shows it forwards the connection to that hop
    /// and could listen in. A key that is known for this very host counts as its own, even if other hosts have it too.
    fn check_binding(&self, known: &KnownHosts, presented: &Presented, met: Encounter<'_>) -> Result<(), ConnectError> {
        let key = presented.key.public_key();
        if known.judge(self.name, &key) != Verdict::Unknown {
            return Ok(());
        }
        let is_its = |other: &&String| *other != self.name && known.judge(other, &key) == Verdict::Known;
        let Some(other) = self.names.iter().find(is_its) else { return Ok(()) };
        self.settings.host_keys.refused(&key, met);
        let (host, presented) = (self.name.to_owned(), fingerprint(&key));
        Err(ConnectError::HostKeyOfAnother { host, other: other.clone(), presented })
    }
}

fn not_forwarded(why: &ChannelOpenFailure) -> String {
    match why {
        ChannelOpenFailure::AdministrativelyProhibited => {
            "it forbids forwarding. Its sshd_config must say AllowTcpForwarding yes (or local), and PermitOpen, where it stands, \
             must name that address"
                .to_owned()
        }
        ChannelOpenFailure::ConnectFailed => {
            "nothing answers there. Does the jump host know the name, is the host up, and does an SSH server run on that port?"
                .to_owned()
        }
        other => format!("it gives no channel ({})", clean_line(&format!("{other:?}"))),
    }
}
