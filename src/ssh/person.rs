//! A dial's channel to the user at the terminal: cleaned texts, progress, questions. Every text of a target passes
//! through here before a user sees it. Knows no SSH.

use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};

use super::{DialEvent, Prompt};
use crate::core::visible::is_visible;

/// Maximum characters kept of one text from a target: enough for a banner, too little to hide something in.
const TEXT_LIMIT: usize = 1024;

/// The user at the other end of [`super::Dial::events`], and the hop of the way that speaks with them.
#[derive(Clone)]
pub(super) struct Person {
    events: mpsc::Sender<DialEvent>,
    /// The jump host; `None` is the target.
    hop: Option<String>,
}

impl Person {
    /// Returns the user whom `events` reaches; messages name the jump host `hop`, or the target if `None`.
    pub(super) fn new(events: mpsc::Sender<DialEvent>, hop: Option<String>) -> Self {
        Self { events, hop }
    }

    /// Sends a progress message; dropped if the receiver is slow or gone, since nothing depends on it.
    pub(super) fn tell(&self, sentence: String) {
        let sentence = match &self.hop {
            Some(hop) => format!("at the jump host {hop}: {sentence}"),
            None => sentence,
        };
        if self.events.try_send(DialEvent::Progress(sentence)).is_err() {
            tracing::debug!("progress not shown: nobody takes it");
        }
    }

    /// Reports an unsolicited channel; dropped if nothing receives it, since the channel is refused all the same.
    pub(super) fn unasked(&self, kind: &'static str) {
        if self.events.try_send(DialEvent::Unasked { hop: self.hop.clone(), kind }).is_err() {
            tracing::debug!(kind, "a channel opened unasked is not told: nobody takes it");
        }
    }

    /// Asks and waits for as long as the user takes; `None` is a refusal. An answer has one value per field.
    pub(super) async fn ask(&self, mut prompt: Prompt) -> Option<Vec<SecretString>> {
        if let Some(hop) = &self.hop {
            prompt.title = format!("Jump host {hop}: {}", prompt.title);
        }
        let expected = prompt.fields.len();
        let (reply, answer) = oneshot::channel();
        self.events.send(DialEvent::Ask { prompt, reply }).await.ok()?;
        answer.await.ok().filter(|values| values.len() == expected)
    }

    /// Announces that the key of `host` is about to be remembered; returns whether it may be.
    pub(super) async fn may_trust(&self, host: &str, detail: String) -> bool {
        let (proceed, told) = oneshot::channel();
        let event = DialEvent::Trusting { host: host.to_owned(), detail, proceed };
        self.events.send(event).await.is_ok() && told.await.is_ok()
    }
}

/// Makes one safe line of a target's text.
pub(super) fn clean_line(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_ascii_whitespace() { ' ' } else { c });
    spaced.filter(|c| is_visible(*c)).take(TEXT_LIMIT).collect::<String>().trim().to_owned()
}

/// Makes a target's text safe; line ends stay, as `\n`.
pub(super) fn clean_text(text: &str) -> String {
    let kept = text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| *c == '\n' || is_visible(*c));
    kept.take(TEXT_LIMIT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{PromptField, PromptKind};
    use super::*;

    #[test]
    fn a_targets_words_cannot_move_the_cursor_or_turn_the_text_around() {
        assert_eq!(clean_line("\x1b]0;x\x07Pass\u{202e}word:\r\n "), "]0;xPassword:");
        assert_eq!(clean_text("one\r\ntwo\u{200b}\u{2066}\u{9b}31m\t!"), "one\ntwo31m !");
        assert_eq!(clean_line(&"ü".repeat(5000)).chars().count(), TEXT_LIMIT);
    }

    #[tokio::test]
    async fn silence_and_a_wrong_number_of_values_are_refusals() {
        let (events, mut far) = mpsc::channel(1);
        let person = Person::new(events, None);
        let field = PromptField { label: "Code:".into(), echo: true };
        let prompt = Prompt {
            kind: PromptKind::KeyboardInteractive,
            title: String::new(),
            text: String::new(),
            fields: vec![field],
        };
        let asked = tokio::spawn({
            let (person, prompt) = (person.clone(), prompt.clone());
            async move { person.ask(prompt).await.is_some() }
        });
        let Some(DialEvent::Ask { reply, .. }) = far.recv().await else { panic!("no question") };
        reply.send(Vec::new()).unwrap();
        assert!(!asked.await.unwrap());
        drop(far);
        assert!(person.ask(prompt).await.is_none());
    }
}
