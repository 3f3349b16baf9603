//! `GET /api/v1/sessions/{id}/recording`: the recording of a session as an asciicast, as far as it is written, whole or
//! in part (RFC 9110 §14), or its head alone. Decides nothing about recordings.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{
        Method,
        header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE},
    },
    web,
};
use bytes::Bytes;
use futures_util::stream;

use super::{audit::Visitor, auth::Caller, error::Problem, sessions, state::State};
use crate::{
    core::{
        audit::Action,
        people::Right,
        record::{NodeId, Record},
    },
    recording::{directory::RecordingDir, text::Text},
};

/// The media type that the format's authors suggest.
const ASCIICAST: &str = "application/x-asciicast";

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 64 * 1024;

/// The part that a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Everything: no header, or one that may be ignored.
    Whole,
    /// These bytes.
    Bytes(Range<u64>),
    /// None of the existing bytes.
    Nothing,
}

/// A recording on its way to a reader.
struct Download {
    state: web::Data<State>,
    caller: Caller,
    record: Record,
    text: Arc<Mutex<Text>>,
    /// The bytes left to send.
    part: Range<u64>,
}

/// Answers with the recording.
pub async fn recording(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let record = sessions::find(&state, &caller, sessions::session_id(&id)?).await?;
    may_read(&caller, &record)?;
    let Some(place) = record.recording.clone() else {
        return Err(Problem::not_found("This session was not recorded."));
    };
    let recording_dir = RecordingDir::new(&state.settings.data_dir, Some(state.settings.seals.clone()));
    let opened = web::block(move || open(&recording_dir, &place)).await.map_err(|_| Problem::internal())?;
    let (text, length) = opened.map_err(|error| missing(&record, state.gateway.node(), &error))?;
    if !caller.owns(&record) {
        Visitor::of(&request, &state, &caller).looks_at(&state, Action::RecordingRead, &record);
    }
    let is_head = request.method() == Method::HEAD;
    let (part, mut response) = match part(asked_range(&request), length) {
        Part::Whole => (0..length, HttpResponse::Ok()),
        Part::Bytes(part) => {
            let mut response = HttpResponse::PartialContent();
            response.insert_header((CONTENT_RANGE, format!("bytes {}-{}/{length}", part.start, part.end - 1)));
            (part, response)
        }
        Part::Nothing => return Err(Problem::no_such_range(length)),
    };
    response.insert_header((ACCEPT_RANGES, "bytes")).insert_header((CONTENT_TYPE, ASCIICAST));
    response.insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{}.cast\"", record.id)));
    let length = part.end - part.start;
    // The body of a HEAD response is not sent, so it is not read.
    let part = if is_head { 0..0 } else { part };
    let download = Download { state, caller, record, text, part };
    Ok(response.body(SizedStream::new(length, download.pieces())))
}

/// Refuses the recording of another user's session to callers who may not play it.
fn may_read(caller: &Caller, record: &Record) -> Result<(), Problem> {
    if caller.owns(record) { Ok(()) } else { caller.need(Right::Replay) }
}

fn open(recording_dir: &RecordingDir, place: &str) -> io::Result<(Arc<Mutex<Text>>, u64)> {
    let mut text = recording_dir.open(place)?;
    let length = text.length()?;
    Ok((Arc::new(Mutex::new(text)), length))
}

fn missing(record: &Record, own: &NodeId, error: &io::Error) -> Problem {
    if error.kind() != io::ErrorKind::NotFound {
        tracing::error!(session_id = %record.id, %error, "a recording cannot be read");
        return Problem::unreadable(&error.to_string());
    }
    if record.node == *own {
        return Problem::not_found("There is no recording any more, or there never was one, since nothing was shown.");
    }
    Problem::not_found(format!(
        "The recording is not on this gateway: nothing was shown, it was removed, or it lies on {}.",
        record.node
    ))
}

impl Download {
    /// Streams it piece by piece, as fast as it is taken and for as long as the reader has access.
    fn pieces(self) -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> {
        stream::unfold(self, |mut download| async move {
            let part = std::mem::take(&mut download.part);
            if part.is_empty() {
                return None;
            }
            let now = download.caller.now(&download.state);
            if now.is_none_or(|caller| may_read(&caller, &download.record).is_err()) {
                let error =
                    io::Error::new(io::ErrorKind::PermissionDenied, "whoever reads this recording may no longer");
                return Some((Err(error), download));
            }
            let (reader, start, length) = (download.text.clone(), part.start, CHUNK_BYTES.min(part.end - part.start));
            let read = web::block(move || {
                let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
                // One piece is read at a time; a reader that panicked left the state consistent.
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader.seek(SeekFrom::Start(start))?;
                reader.read_exact(&mut piece).map(|()| Bytes::from(piece))
            });
            let piece = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            download.part = start + length..part.end;
            Some((piece, download))
        })
    }
}

/// Returns the `Range` header if it counts: for `GET` only (RFC 9110 §14.2), and not beside `If-Range`, which asks for
/// everything unless it names the version that is here (§13.1.5); a recording names none.
fn asked_range(request: &HttpRequest) -> Option<&str> {
    let counts = request.method() == Method::GET && !request.headers().contains_key(IF_RANGE);
    request.headers().get(RANGE).filter(|_| counts)?.to_str().ok()
}

/// Reads a `Range` header for a file of `length` bytes. Several ranges are ignored, as a server may.
fn part(header: Option<&str>, length: u64) -> Part {
    let Some((from, to)) = header.and_then(|header| header.strip_prefix("bytes=")?.trim().split_once('-')) else {
        return Part::Whole;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let part = match (from, to) {
        ("", to) => match number(to) {
            Some(last) => length.saturating_sub(last)..length,
            None => return Part::Whole,
        },
        (from, "") => match number(from) {
            Some(from) => from..length,
            None => return Part::Whole,
        },
        (from, to) => match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => from..length.min(to.saturating_add(1)),
            _ => return Part::Whole,
        },
    };
    if part.is_empty() { Part::Nothing } else { Part::Bytes(part) }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use futures_util::StreamExt;

    use super::*;
    use crate::web::fixture::{caller, record, settings, state_with};

    #[actix_rt::test]
    async fn only_who_may_play_others_recordings_reads_one() {
        let state = state_with(settings());
        let may = |user: &str, username: &str| {
            let record = Record { username: username.to_owned(), ..record() };
            may_read(&caller(&state, user).0, &record).is_ok()
        };
        for (user, others) in
            [("viewer", false), ("user", false), ("operator", false), ("auditor", true), ("admin", true)]
        {
            assert_eq!((may(user, user), may(user, "ada")), (true, others), "{user}");
        }
    }

    #[actix_rt::test]
    async fn a_recording_is_read_no_further_than_the_right_to_it_lasts() {
        let (dir, state) = (tempfile::tempdir().unwrap(), state_with(settings()));
        let path = dir.path().join("x.cast");
        std::fs::write(&path, vec![b'x'; 2 * CHUNK_BYTES as usize]).unwrap();
        let (reader, cookie) = caller(&state, "auditor");
        let text = Arc::new(Mutex::new(Text::open(&path, None).unwrap()));
        let download =
            Download { state: state.clone(), caller: reader, record: record(), text, part: 0..2 * CHUNK_BYTES };
        let mut pieces = Box::pin(download.pieces());
        assert_eq!(pieces.next().await.unwrap().unwrap().len() as u64, CHUNK_BYTES);
        state.sign_ins().sign_out(state.times(), &cookie).await.unwrap();
        let refused = pieces.next().await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(pieces.next().await.is_none());
    }

    #[test]
    fn a_missing_recording_is_looked_for_on_another_gateway_only() {
        let (record, gone) = (record(), io::Error::from(io::ErrorKind::NotFound));
        let told = |own: &str| missing(&record, &NodeId(own.to_owned()), &gone).to_string();
        assert!(told("gw-2").contains("lies on gw-1") && !told("gw-1").contains("gw-1"), "{}", told("gw-1"));
    }

    #[test]
    fn a_range_counts_for_get_and_under_no_condition() {
        let asked = |method: Method, headers: &[(&'static str, &'static str)]| {
            let request = TestRequest::default().method(method).insert_header(("range", "bytes=0-9"));
            let request = headers.iter().fold(request, |request, header| request.insert_header(*header));
            asked_range(&request.to_http_request()).map(str::to_owned)
        };
        assert_eq!(asked(Method::GET, &[]).as_deref(), Some("bytes=0-9"));
        assert_eq!(asked(Method::HEAD, &[]), None);
        for version in ["\"x\"", "Fri, 02 Jan 2026 03:04:05 GMT"] {
            assert_eq!(asked(Method::GET, &[("if-range", version)]), None, "{version}");
        }
    }

    #[test]
    fn a_range_is_read_as_rfc_9110_says() {
        for (header, expected) in [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=2-5", Part::Bytes(2..6)),
            ("bytes=2-99", Part::Bytes(2..10)),
            ("bytes=2-18446744073709551615", Part::Bytes(2..10)),
            ("bytes=7-", Part::Bytes(7..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-99", Part::Bytes(0..10)),
            ("bytes=10-", Part::Nothing),
            ("bytes=10-12", Part::Nothing),
            ("bytes=-0", Part::Nothing),
            ("bytes=5-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            assert_eq!(part(Some(header), 10), expected, "{header}");
        }
        assert_eq!(part(None, 10), Part::Whole);
    }
}
