//! One SSH channel of the demo server: carries bytes between the channel and its playground, one chunk at a time, so
//! that a client that does not read costs a bounded amount of memory. Does not know commands.

use std::{pin::pin, time::Duration};

use russh::{
    Channel, ChannelId, ChannelMsg, ChannelWriteHalf, Sig,
    server::{Handle, Msg},
};
use tokio::time::{Interval, interval};

use super::{
    playground::{Effect, End, Playground},
    wire::WireControl,
};
use crate::ssh::Size;

/// Bytes of replies queued for a client that types but does not read; beyond this the connection is cut. russh returns
/// receive window on receipt, so no other limit applies to such a client.
const MAX_UNREAD: usize = 4 * 1024 * 1024;

/// The terminal size of a client without a PTY (RFC 4254 §6.2 names no default; this is the classic terminal's).
const DEFAULT_SIZE: Size = Size { cols: 80, rows: 24 };

/// Serves one channel until it or its connection ends.
pub(super) async fn serve(channel: Channel<Msg>, session: Handle, wire: WireControl) {
    let id = channel.id();
    let (mut messages, writer) = channel.split();
    let mut size = DEFAULT_SIZE;
    let mut playground = None;
    let mut clock = None;
    let mut sending = pin!(send(&writer, &wire, None));
    let mut busy = false;

    loop {
        if !busy {
            match playground.as_mut().and_then(Playground::poll_effect) {
                Some(Effect::Write(bytes)) => {
                    sending.set(send(&writer, &wire, Some(bytes)));
                    busy = true;
                }
                Some(Effect::End(end)) => {
                    // Without its receiver the channel takes no more input, which could otherwise keep the SSH loop
                    // from taking the goodbye.
                    drop(messages);
                    if finish(id, &session, &wire, end).await.is_err() {
                        tracing::debug!("demo client left before the goodbye");
                    }
                    return;
                }
                None => {}
            }
        }
        let ticks = playground.as_ref().is_some_and(Playground::wants_ticks);
        if ticks != clock.is_some() {
            clock = ticks.then(|| interval(Duration::from_secs(1)));
        }
        // Input first: a Ctrl-C overtakes pending output. Reading never waits for writing; otherwise the SSH loop could
        // wait for this task while this task waits for a window that only the SSH loop can open.
        tokio::select! {
            biased;
            message = messages.wait() => match message {
                Some(message) => hear(message, &mut playground, &mut size),
                None => return,
            },
            sent = &mut sending, if busy => match sent {
                Ok(()) => busy = false,
                Err(_gone) => return,
            },
            () = tick(&mut clock), if !busy => {
                if let Some(playground) = &mut playground {
                    playground.tick();
                }
            }
        }
        if playground.as_ref().is_some_and(|playground| playground.unread() > MAX_UNREAD) {
            tracing::debug!("demo client types but does not read, cutting it off");
            return wire.cut();
        }
    }
}

/// Takes one message of the channel. Requests that the handler refused are ignored here by the same rule.
fn hear(message: ChannelMsg, playground: &mut Option<Playground>, size: &mut Size) {
    match (message, playground) {
        (ChannelMsg::Data { data }, Some(playground)) => playground.input(data),
        (ChannelMsg::Eof, Some(playground)) => playground.end_of_input(),
        (
            ChannelMsg::RequestPty { col_width, row_height, .. }
            | ChannelMsg::WindowChange { col_width, row_height, .. },
            playground,
        ) => {
            *size = clamped(col_width, row_height);
            if let Some(playground) = playground {
                playground.resize(*size);
            }
        }
        (ChannelMsg::RequestShell { .. }, playground @ None) => *playground = Some(Playground::shell(*size)),
        (ChannelMsg::Exec { command, .. }, playground @ None) => *playground = Playground::exec(&command, *size),
        _ => {}
    }
}

fn clamped(cols: u32, rows: u32) -> Size {
    let clamp = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX).clamp(1, 1000);
    Size { cols: clamp(cols), rows: clamp(rows) }
}

async fn send(
    writer: &ChannelWriteHalf<Msg>,
    wire: &WireControl,
    bytes: Option<bytes::Bytes>,
) -> Result<(), russh::Error> {
    match bytes {
        Some(bytes) => {
            wire.drained().await;
            writer.data_bytes(bytes).await
        }
        None => Ok(()),
    }
}

async fn tick(clock: &mut Option<Interval>) {
    match clock {
        Some(clock) => {
            clock.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Reports the program's exit (RFC 4254 §6.10) and closes the channel; fails if the connection is gone.
async fn finish(id: ChannelId, session: &Handle, wire: &WireControl, end: End) -> Result<(), ()> {
    match end {
        End::Status(status) => session.exit_status_request(id, status).await?,
        End::Signal(name) => {
            let signal = Sig::Custom(name.to_owned());
            session.exit_signal_request(id, signal, false, String::new(), String::new()).await?;
        }
        End::Drop => {
            wire.cut();
            return Ok(());
        }
    }
    session.eof(id).await?;
    session.close(id).await
}
