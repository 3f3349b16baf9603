//! What a session says to its browser, as frames. Knows no browser's words.

use actix::StreamHandler;
use actix_http::ws::OpCode;

use super::{Ctx, TerminalSocket};
use crate::{
    actor::wire::ToSocket,
    core::{record::EndReason, stream::Picture},
    ssh::Size,
    web::protocol::{self, Fault, GatewayFrame},
};

impl StreamHandler<ToSocket> for TerminalSocket {
    fn handle(&mut self, frame: ToSocket, ctx: &mut Ctx) {
        match frame {
            ToSocket::Output(bytes) => self.outlet.output(bytes),
            ToSocket::Redraw(Picture { offset: output_offset, bytes, lost: lost_bytes }) => {
                self.send(&GatewayFrame::Screen { output_offset, screen_bytes: bytes.len(), lost_bytes });
                self.outlet.output(bytes);
            }
            ToSocket::Watchers(names) => self.send(&GatewayFrame::Watchers { names: &names }),
            ToSocket::Size(Size { cols, rows }) => self.send(&GatewayFrame::Size { cols, rows }),
            ToSocket::InputAck(input_offset) => self.send(&GatewayFrame::InputAck { input_offset }),
            ToSocket::Status { status, detail } => self.send(&GatewayFrame::Status { status, detail: &detail }),
            ToSocket::Ask(id, prompt) => self.send(&protocol::prompt(id, &prompt)),
            ToSocket::Warn(warning) if warning.reason == EndReason::IdleTimeout => {
                let closes_in_ms = u64::try_from(warning.closes_in.as_millis()).unwrap_or(u64::MAX);
                self.send(&GatewayFrame::IdleWarning { closes_in_ms });
            }
            ToSocket::Warn(warning) => {
                let detail = format!("The session's time is up in {} s.", warning.closes_in.as_secs());
                self.send(&GatewayFrame::Status { status: "active", detail: &detail });
            }
            ToSocket::Ping => self.outlet.say(OpCode::Ping, b""),
            ToSocket::Closed { reason, exit_status, message } => self.closed(reason, exit_status, &message, ctx),
            ToSocket::Superseded => self.fail(Fault::Superseded, "The session was opened in another window.", ctx),
            ToSocket::FellBehind => {
                self.fail(Fault::TooMany, "This window is too slow for the session's output. Attach again.", ctx);
            }
            ToSocket::BadAck(beyond) => {
                self.fail(Fault::Protocol, &format!("The acknowledged output is wrong: {beyond}."), ctx);
            }
        }
    }
}
