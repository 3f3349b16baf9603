//! Delivery of audit entries to another system: the message, its signature, and the reaction to an answer. Pure.
//!
//! The signature is that of Standard Webhooks 1.0 (symmetric): `v1,` and the HMAC-SHA-256 of `ID.TIMESTAMP.BODY` in Base64,
//! so that receivers verify it with a library they have.

use std::time::Duration;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::Sha256;

use super::{
    audit::{Action, Entry},
    record::{NodeId, UtcMicros},
};

/// Most entries in one message: some tens of KiB.
pub const BATCH: u32 = 100;

/// The shortest secret, in characters: 192 bits of Base64, as the specification requires.
pub const MIN_SECRET_CHARS: usize = 32;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The number of refusals at which a message is given up.
const MAX_REFUSALS: u32 = 5;

/// The time after the first failed try of a message at which it is given up, whether the receiver is away or answers that
/// it cannot: a week outlasts a long weekend and the repair behind it. A restart of the gateway begins it anew.
const GIVE_UP_AFTER: Duration = Duration::from_hours(7 * 24);

/// A receiver of entries.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Its name, unique.
    pub name: String,
    /// Its address: `https://…`, or `http://…` on this host.
    pub url: String,
    /// The secret that signs messages.
    pub secret: SecretString,
    /// The actions whose entries it receives; empty: all.
    pub actions: Vec<Action>,
}

impl Hook {
    /// Whether it receives an entry. None receives those about a given-up message: two receivers that refuse everything
    /// would feed each other, and the log, for ever.
    pub fn wants(&self, entry: &Entry) -> bool {
        let action = entry.deed.action;
        action != Action::WebhookGiveUp && (self.actions.is_empty() || self.actions.contains(&action))
    }
}

/// A message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header `webhook-id`: the same at every try.
    pub id: String,
    /// The header `webhook-timestamp`: seconds since 1970.
    pub timestamp: i64,
    /// The header `webhook-signature`.
    pub signature: String,
    /// The body, in JSON.
    pub body: String,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    node: &'a str,
    entries: &'a [serde_json::Value],
}

/// Returns the message that delivers entries of `node` to `hook`; `shown` are these entries as the API shows them.
pub fn message(hook: &Hook, node: &NodeId, range: (u64, u64), shown: &[serde_json::Value], now: UtcMicros) -> Message {
    let id = format!("{node}-{}-{}", range.0, range.1);
    let timestamp = now.0.div_euclid(1_000_000);
    let body = Body { kind: "audit.entries", node: &node.0, entries: shown };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let signature = sign(&hook.secret, &id, timestamp, &body);
    Message { id, timestamp, signature, body }
}

/// Returns the signature. The key is the secret as it is: `whsec_` and Base64 if a receiver made it, else its own
/// bytes.
fn sign(secret: &SecretString, id: &str, timestamp: i64, body: &str) -> String {
    let text = secret.expose_secret();
    let key = text.strip_prefix("whsec_").and_then(|key| BASE64.decode(key.as_bytes()).ok());
    let key = key.unwrap_or_else(|| text.as_bytes().to_vec());
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

/// The outcome of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Any status of 200 … 299.
    Taken,
    /// A status that means that trying again is of no use: 400 … 499, except for 408, 425 and 429; or a redirection.
    Refused(String),
    /// Any other status, or none.
    Away(String),
}

impl Answer {
    /// Returns the outcome for a status.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            408 | 425 | 429 => Self::Away(format!("status {status}")),
            300..=499 => Self::Refused(format!("status {status}")),
            _ => Self::Away(format!("status {status}")),
        }
    }
}

/// The consecutive tries of a message that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retries {
    tries: u32,
    refusals: u32,
    since: Option<Duration>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It was accepted: continue with the next message.
    GoOn,
    /// Try the same message again after this pause.
    Again(Duration),
    /// Put it among the dead letters, and continue with the next message.
    GiveUp(String),
}

impl Retries {
    /// Decides on an answer at `now` (monotonic); `jitter`, in 0 … 1, spreads the tries (full jitter, as
    /// `core::ledger`).
    pub fn after(&mut self, answer: Answer, now: Duration, jitter: f64) -> Next {
        let why = match answer {
            Answer::Taken => {
                *self = Self::default();
                return Next::GoOn;
            }
            Answer::Refused(why) => {
                self.refusals += 1;
                why
            }
            Answer::Away(why) => why,
        };
        self.tries = self.tries.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        if self.refusals >= MAX_REFUSALS || now.saturating_sub(since) >= GIVE_UP_AFTER {
            *self = Self::default();
            return Next::GiveUp(why);
        }
        // A receiver that answers may be tried again soon; one that does not is given time to recover.
        let tries = if self.refusals > 0 { 0 } else { self.tries.min(10) };
        let limit = LONGEST_PAUSE.min(Duration::from_secs(1 << tries));
        Next::Again(limit.mul_f64(jitter.clamp(0.1, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(secret: &str) -> Hook {
        Hook { name: "siem".into(), url: "https://h/".into(), secret: secret.into(), actions: vec![] }
    }

    #[test]
    fn a_message_is_signed_as_the_specification_says() {
        // The example of the specification.
        let signed = sign(
            &"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_ne!(
            sign(&"another-secret".into(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}"),
            signed
        );
    }

    #[test]
    fn the_id_of_a_message_is_the_same_at_every_try() {
        let (node, now) = (NodeId("n1".into()), UtcMicros(1_700_000_000_000_000));
        let first = message(&hook("s"), &node, (3, 7), &[], now);
        let again = message(&hook("s"), &node, (3, 7), &[], UtcMicros(now.0 + 9_000_000));
        assert_eq!((first.id.as_str(), again.id.as_str(), again.timestamp), ("n1-3-7", "n1-3-7", 1_700_000_009));
        assert_eq!(first.body, r#"{"type":"audit.entries","node":"n1","entries":[]}"#);
    }

    #[test]
    fn what_is_refused_is_given_up_soon_and_who_is_away_is_waited_for() {
        let second = Duration::from_secs(1);
        let mut retries = Retries::default();
        for _ in 1..MAX_REFUSALS {
            assert!(matches!(retries.after(Answer::of(400), second, 1.0), Next::Again(_)));
        }
        assert_eq!(retries.after(Answer::of(400), second, 1.0), Next::GiveUp("status 400".into()));
        let mut last = Duration::ZERO;
        for tries in 0..1_000 {
            let Next::Again(pause) = retries.after(Answer::of(503), second * tries, 1.0) else { panic!("{tries}") };
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
        }
        assert!(matches!(retries.after(Answer::of(503), GIVE_UP_AFTER, 1.0), Next::GiveUp(_)));
        assert_eq!(retries.after(Answer::of(204), GIVE_UP_AFTER, 1.0), Next::GoOn);
        assert_eq!(retries, Retries::default());
    }

    #[test]
    fn a_webhook_is_told_of_what_it_asks_for_and_never_of_giving_up() {
        let wants = |actions: &[Action], action| {
            let deed = crate::core::audit::Deed::of_gateway(action, "siem", "Told by a test.");
            let hook = Hook { actions: actions.to_vec(), ..hook("s") };
            hook.wants(&Entry { sequence: 1, at: UtcMicros(1), deed })
        };
        assert!(wants(&[], Action::SignIn) && wants(&[Action::SignIn], Action::SignIn));
        assert!(!wants(&[Action::SignIn], Action::SignOut));
        assert!(!wants(&[], Action::WebhookGiveUp) && !wants(&[Action::WebhookGiveUp], Action::WebhookGiveUp));
    }

    #[test]
    fn an_answer_is_judged_by_its_status() {
        for (status, taken, refused) in [
            (200, true, false),
            (299, true, false),
            (301, false, true),
            (404, false, true),
            (410, false, true),
            (408, false, false),
            (429, false, false),
            (500, false, false),
            (199, false, false),
        ] {
            let answer = Answer::of(status);
            assert_eq!((answer == Answer::Taken, matches!(answer, Answer::Refused(_))), (taken, refused), "{status}");
        }
    }
}
