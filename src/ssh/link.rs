//! A live shell over russh: the session channel with its PTY, split into output, input, and the connection itself.
//! Knows no host key and no login.

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc, task, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, join_all},
};
use russh::{
    ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, Pty, Sig,
    client::{Handle, Msg},
};
use tokio::{sync::watch, task::coop::unconstrained, time::timeout};

use super::{
    ConnectError, Link, LinkControl, LinkEvent, LinkGone, LinkInput, LinkOutput, Size,
    handler::{Client, Peer},
    person::clean_line,
    route::Connection,
    valve::ValveControl,
};
use crate::core::record::ExitStatus;

/// Maximum time for the target to open a terminal and a shell.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Maximum time for a disconnect to be sent.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// Maximum bytes of output before the shell is confirmed; a target that sends more is faulty.
const EARLY_LIMIT: usize = 64 * 1024;

/// Opens a shell on the last connection of a way. The PTY and the shell are asked for at once, which saves a round trip.
pub(super) async fn open(way: Vec<Connection>, login: &str, term: &str, size: Size) -> Result<Link, ConnectError> {
    let no_way = || ConnectError::NoPty { login: clean_line(login), cause: "there is no connection".to_owned() };
    let (first, last) = way.first().zip(way.last()).ok_or_else(no_way)?;
    let (read, write, early) = ask_for(last, &["PTY", "shell"], login, term, size).await?;
    let (addr, ended, valve) = (last.peer.addr.clone(), last.ended.clone(), first.guard.0.clone());
    Ok(Link {
        addr,
        output: Box::new(Output { read, early }),
        input: Box::new(Input { write, ended }),
        control: Box::new(Control { way, valve }),
    })
}

/// Asks the last connection of a way for a PTY, starts nothing on it, and hangs up.
pub(super) async fn try_out(way: Vec<Connection>, login: &str, term: &str, size: Size) -> Result<(), ConnectError> {
    let Some((first, last)) = way.first().zip(way.last()) else { return Ok(()) };
    let given = ask_for(last, &["PTY"], login, term, size).await.map(drop);
    let valve = first.guard.0.clone();
    Box::new(Control { way, valve }).close().await;
    given
}

/// Opens a session channel and requests `what`: a PTY, with or without a shell on it.
async fn ask_for(
    connection: &Connection,
    what: &[&str],
    login: &str,
    term: &str,
    size: Size,
) -> Result<Shell, ConnectError> {
    let opened = timeout(OPEN_LIMIT, open_channel(&connection.handle, &connection.peer, what, login, term, size)).await;
    opened.map_err(|_| ConnectError::NoPty {
        login: clean_line(login),
        cause: format!("no answer within {} s", OPEN_LIMIT.as_secs()),
    })?
}

type Shell = (ChannelReadHalf, ChannelWriteHalf<Msg>, VecDeque<LinkEvent>);

async fn open_channel(
    handle: &Handle<Client>,
    peer: &Peer,
    what: &[&str],
    login: &str,
    term: &str,
    size: Size,
) -> Result<Shell, ConnectError> {
    let refused = |what: &str| ConnectError::NoPty { login: clean_line(login), cause: what.to_owned() };
    let channel = handle.channel_open_session().await.map_err(|error| match error {
        russh::Error::ChannelOpenFailure(reason) => refused(&format!("no session channel ({reason:?})")),
        error => peer.broken(&error),
    })?;
    let (mut read, write) = channel.split();
    // UTF-8 mode of the target's line discipline: without it a backspace removes one byte of a character.
    let modes = [(Pty::IUTF8, 1)];
    let (cols, rows) = (size.cols.into(), size.rows.into());
    write.request_pty(true, term, cols, rows, 0, 0, &modes).await.map_err(|error| peer.broken(&error))?;
    if what.contains(&"shell") {
        write.request_shell(true).await.map_err(|error| peer.broken(&error))?;
    }

    let mut early = VecDeque::new();
    let mut early_bytes = 0;
    for what in what {
        loop {
            match read.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => return Err(refused(&format!("the {what} was refused"))),
                Some(message) => match event_of(message) {
                    Some(LinkEvent::Closed) => return Err(refused("the channel was closed")),
                    Some(event) => {
                        // An event without bytes counts as one, so that the number of events is bounded.
                        early_bytes += if let LinkEvent::Output(bytes) = &event { bytes.len() } else { 1 };
                        early.push_back(event);
                    }
                    None => {}
                },
                None => return Err(peer.broken(&russh::Error::Disconnect)),
            }
            if early_bytes > EARLY_LIMIT {
                return Err(peer.broken_by("it sends output before it confirms a shell".to_owned()));
            }
        }
    }
    Ok((read, write, early))
}

fn event_of(message: ChannelMsg) -> Option<LinkEvent> {
    match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
            (!data.is_empty()).then_some(LinkEvent::Output(data))
        }
        ChannelMsg::ExitStatus { exit_status } => Some(LinkEvent::Exited(ExitStatus::Code(exit_status))),
        ChannelMsg::ExitSignal { signal_name, .. } => Some(LinkEvent::Exited(ExitStatus::Signal(name_of(signal_name)))),
        ChannelMsg::Close => Some(LinkEvent::Closed),
        // No other message concerns a terminal; russh's enum may grow.
        _ => None,
    }
}

fn name_of(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => clean_line(&name).chars().take(32).collect(),
        known => format!("{known:?}"),
    }
}

struct Output {
    read: ChannelReadHalf,
    early: VecDeque<LinkEvent>,
}

impl LinkOutput for Output {
    fn poll_event(&mut self, cx: &mut task::Context<'_>) -> task::Poll<LinkEvent> {
        if let Some(event) = self.early.pop_front() {
            return task::Poll::Ready(event);
        }
        loop {
            // Waiting is receiving from a tokio channel: a dropped wait loses nothing and its waker stays registered.
            match task::ready!(pin!(self.read.wait()).poll(cx)) {
                None => return task::Poll::Ready(LinkEvent::Closed),
                Some(message) => {
                    if let Some(event) = event_of(message) {
                        return task::Poll::Ready(event);
                    }
                }
            }
        }
    }
}

struct Input {
    write: ChannelWriteHalf<Msg>,
    /// Fails once russh's task is gone: nothing else ends a write that waits for the target's window.
    ended: watch::Receiver<()>,
}

async fn unless_ended(
    ended: &mut watch::Receiver<()>,
    sent: impl Future<Output = Result<(), russh::Error>>,
) -> Result<(), LinkGone> {
    tokio::select! {
        biased;
        sent = sent => sent.map_err(|_| LinkGone),
        _ = ended.changed() => Err(LinkGone),
    }
}

impl LinkInput for Input {
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        Box::pin(unless_ended(&mut self.ended, self.write.data_bytes(bytes)))
    }

    fn resize(&mut self, size: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        let change = self.write.window_change(size.cols.into(), size.rows.into(), 0, 0);
        Box::pin(unless_ended(&mut self.ended, change))
    }
}

struct Control {
    /// The connections of the way; the target's is the last one.
    way: Vec<Connection>,
    /// The valve of the first connection, the only one directly on the network. Bytes on their way between two hops are
    /// bounded, and are always read: if they were not, the jump host's loop would wait on them and forward no typed
    /// input.
    valve: Arc<ValveControl>,
}

impl LinkControl for Control {
    fn probe(&self) {
        let Some(target) = self.way.last() else { return };
        // If the queue is full, or its task gone, waiting would not send it any sooner.
        let sent = unconstrained(target.handle.send_keepalive(true)).now_or_never();
        tracing::trace!(queued = sent.is_some(), "probe");
    }

    fn close_valve(&self) {
        self.valve.close();
    }

    fn open_valve(&self) {
        self.valve.open();
    }

    fn close(mut self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            if timeout(FAREWELL_LIMIT, farewell(&mut self.way)).await.is_err() {
                for connection in &self.way {
                    connection.guard.0.cut();
                }
                // Their tasks release the socket at their next turn, unless they are held up by output that nothing
                // takes.
                let ended = timeout(FAREWELL_LIMIT, join_all(self.way.iter_mut().map(|c| &mut c.handle))).await;
                tracing::trace!(ended = ended.is_ok(), "connection cut");
            }
        })
    }
}

/// Says goodbye to the target and then to every jump host, the nearest one last, since each speaks through the next.
async fn farewell(way: &mut Vec<Connection>) {
    while let Some(connection) = way.last_mut() {
        // If it cannot be sent any more, the task is ending by itself.
        let told = connection.handle.disconnect(Disconnect::ByApplication, "closed", "").await;
        let ended = (&mut connection.handle).await;
        tracing::trace!(told = told.is_ok(), ?ended, "connection ended");
        way.pop();
    }
}
