//! A live shell over russh: the session channel with its PTY, split into what is heard, what is said, and the
//! connection itself. Knows no host key and no login.

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
    valve::Lever,
};
use crate::core::record::ExitStatus;

/// How long the target may take to give a terminal and a shell.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// How long a disconnect may take to leave.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// Output that may arrive before the shell is confirmed; a target that sends more of it is not in order.
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

/// Opens a session channel and asks for `what`: a PTY, and a shell on it or not.
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
    // UTF-8 editing in the target's line discipline: without it a backspace removes one byte of a letter.
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
                        // An event without bytes counts too, so that their number is bounded.
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
        // The rest is no news for a terminal; russh's enum may grow.
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
    /// Fails once russh's task is gone: a write that waits for the target's window is told by nothing else.
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
    /// The target's connection is the last one.
    way: Vec<Connection>,
    /// Of the only connection that has a network below it. What is on its way between two hops is bounded, and taken: were
    /// it left, the jump host's loop would wait with it and pass nothing on of what is typed.
    valve: Arc<Lever>,
}

impl LinkControl for Control {
    fn probe(&self) {
        let Some(target) = self.way.last() else { return };
        // A queue that is full, or whose task is gone, could not send it any sooner.
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
                // Their tasks let go of the socket at their next turn, if they are not held up by output nobody takes.
                let ended = timeout(FAREWELL_LIMIT, join_all(self.way.iter_mut().map(|c| &mut c.handle))).await;
                tracing::trace!(ended = ended.is_ok(), "connection cut");
            }
        })
    }
}

/// Says goodbye to the target and then to every jump host, the nearest one last, since each speaks through the next.
async fn farewell(way: &mut Vec<Connection>) {
    while let Some(connection) = way.last_mut() {
        // Where it cannot be told any more, the task is ending by itself.
        let told = connection.handle.disconnect(Disconnect::ByApplication, "closed", "").await;
        let ended = (&mut connection.handle).await;
        tracing::trace!(told = told.is_ok(), ?ended, "connection ended");
        way.pop();
    }
}
