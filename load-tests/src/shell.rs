//! A terminal on the playground, independent of its transport, and the actions of scenarios on it. Knows neither SSH
//! nor WebSockets.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use tokio::time::timeout;

/// The end of the playground's prompt.
pub const PROMPT: &[u8] = b"~\x1b[0m$ ";

/// The output after Ctrl-C has ended a command: the echoed key and a new prompt.
pub const INTERRUPTED: &[u8] = b"^C\r\n\x1b[1;32mplayground\x1b[0m:\x1b[1;34m~\x1b[0m$ ";

/// The start of a flood: the first of its numbered lines.
const FIRST_LINE: &[u8] = b"0000000001 The";

/// Timeout of a target that owes output.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A terminal.
pub trait Shell {
    /// Types bytes.
    async fn say(&mut self, bytes: &[u8]) -> Result<()>;

    /// Waits for output; never empty.
    async fn hear(&mut self) -> Result<Bytes>;
}

/// Reads until `mark` has passed; returns what came after it.
pub async fn hear_until(shell: &mut impl Shell, mark: &[u8]) -> Result<Bytes> {
    let mut heard = Vec::new();
    loop {
        let place = heard.windows(mark.len()).position(|window| window == mark);
        if let Some(place) = place {
            let mut heard = Bytes::from(heard);
            heard.advance(place + mark.len());
            return Ok(heard);
        }
        let piece = timeout(TIMEOUT, shell.hear()).await;
        let piece = piece.with_context(|| format!("{:?} did not come", String::from_utf8_lossy(mark)))??;
        heard.drain(..heard.len().saturating_sub(mark.len()));
        heard.extend_from_slice(&piece);
    }
}

/// Makes the playground send every byte back.
pub async fn start_raw(shell: &mut impl Shell) -> Result<()> {
    shell.say(b"raw\r").await?;
    // The line is echoed as it is typed; the output after it is the command's.
    hear_until(shell, b"raw").await?;
    shell.say(b"#").await?;
    hear_until(shell, b"#").await.map(|_| ())
}

/// Ends the command of [`start_raw`].
pub async fn end_raw(shell: &mut impl Shell) -> Result<()> {
    shell.say(b"\x1d").await?;
    hear_until(shell, PROMPT).await.map(|_| ())
}

/// Types one key; returns the latency of its echo.
pub async fn echo(shell: &mut impl Shell, key: u8) -> Result<Duration> {
    let typed = Instant::now();
    shell.say(&[key]).await?;
    let heard = timeout(TIMEOUT, shell.hear()).await.context("a key's echo did not come")??;
    let took = typed.elapsed();
    ensure!(*heard == [key], "{heard:?} came back for {:?}", char::from(key));
    Ok(took)
}

/// Requests `bytes` bytes, checks that exactly this many come, and returns how long they took.
pub async fn flood(shell: &mut impl Shell, bytes: u64) -> Result<Duration> {
    shell.say(format!("flood {bytes}\r").as_bytes()).await?;
    let begun = Instant::now();
    let mut piece = hear_until(shell, FIRST_LINE).await?;
    let mut left = bytes - FIRST_LINE.len() as u64;
    while (piece.len() as u64) < left {
        left -= piece.len() as u64;
        piece = timeout(TIMEOUT, shell.hear()).await.context("the flood ran dry")??;
    }
    let took = begun.elapsed();
    let mut behind = piece.slice(left as usize..).to_vec();
    let farewell = format!("\r\nflood: {bytes} bytes\r\n");
    while behind.len() < farewell.len() {
        behind.extend_from_slice(&timeout(TIMEOUT, shell.hear()).await.context("the flood did not end")??);
    }
    ensure!(behind.starts_with(farewell.as_bytes()), "{:?} came after the flood", String::from_utf8_lossy(&behind));
    while !behind.ends_with(PROMPT) {
        behind.extend_from_slice(&timeout(TIMEOUT, shell.hear()).await.context("no prompt after the flood")??);
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A terminal whose output is given, piece by piece.
    struct Parrot(VecDeque<Bytes>);

    impl Shell for Parrot {
        async fn say(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }

        async fn hear(&mut self) -> Result<Bytes> {
            self.0.pop_front().context("nothing left")
        }
    }

    fn parrot(text: &str, size: usize) -> Parrot {
        Parrot(text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect())
    }

    #[actix_rt::test]
    async fn a_mark_is_found_wherever_it_is_cut() {
        for size in 1..12 {
            let mut parrot = parrot("some marmark text", size);
            let mut behind = hear_until(&mut parrot, b"mark").await.unwrap().to_vec();
            while let Ok(more) = parrot.hear().await {
                behind.extend_from_slice(&more);
            }
            assert_eq!(behind, b" text");
        }
    }

    #[actix_rt::test]
    async fn a_flood_with_a_byte_too_few_or_too_many_is_found() {
        let prompt = String::from_utf8_lossy(PROMPT);
        let with = |body: &str| format!("flood 20\r\n{body}\r\nflood: 20 bytes\r\n{prompt}");
        for size in [1, 7, 1000] {
            assert!(flood(&mut parrot(&with("0000000001 The quick"), size), 20).await.is_ok(), "in pieces of {size}");
            assert!(flood(&mut parrot(&with("0000000001 The quic"), size), 20).await.is_err());
            assert!(flood(&mut parrot(&with("0000000001 The quick "), size), 20).await.is_err());
        }
    }
}
