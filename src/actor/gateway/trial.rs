//! A trial connection: dials a target as for a session, with no user to answer prompts, and hangs up. Leaves no record.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{Gateway, GatewayError, OpenSession};
use crate::{
    actor::{clock, registry::RegistryMessage, session::DialAudit},
    ssh::{ConnectError, DialEvent, PromptKind, Step},
};

/// Time limit of a trial: the page that requested it gives up after 15 s.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(13);

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The jump host; `None` for the target.
    pub hop: Option<String>,
    /// The step.
    pub step: Step,
    /// The step's duration.
    pub took: Duration,
    /// The failure, if the step failed; no step follows then.
    pub failure: Option<Failure>,
}

/// The reason why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The connection error.
    pub error: ConnectError,
    /// The kind of prompt that a user would have received at this step, if any.
    pub asked: Option<PromptKind>,
}

impl Gateway {
    /// Dials as for `request`, hangs up where a shell would start, and returns the steps taken so far. Admission and
    /// audit entries (host keys, channels opened unasked) are as for a session.
    ///
    /// # Errors
    /// [`GatewayError`] if a session would not be admitted; nothing was dialled then.
    pub async fn try_out(&self, request: OpenSession) -> Result<Vec<Found>, GatewayError> {
        self.admits()?;
        let username = request.username.clone();
        self.ask(|reply| RegistryMessage::Admits { username, reply }).await??;
        let dial_audit = DialAudit::new(&self.deps, &request);
        let (events, mut heard) = mpsc::channel(1);
        let passed = Arc::new(Mutex::new(vec![clock::instant()]));
        let mut dial = request.dial("test".to_owned(), events, Arc::new(|| {}));
        let (steps, addr) = (dial.steps(), dial.to.host.clone());
        dial.passed = Arc::new({
            let passed = passed.clone();
            move |_| passed.lock().unwrap_or_else(PoisonError::into_inner).push(clock::instant())
        });
        let mut trying = self.deps.connector.try_out(dial);
        let mut asked = None;
        let outcome = tokio::time::timeout(TRIAL_TIMEOUT, async {
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut trying => return outcome,
                    Some(event) = heard.recv() => match event {
                        DialEvent::Progress(_) => {}
                        // Dropping the reply refuses to answer.
                        DialEvent::Ask { prompt, .. } => asked = Some(prompt.kind),
                        DialEvent::Unasked { hop, kind } => dial_audit.unasked(hop.as_deref(), kind),
                        DialEvent::Trusting { host, detail, proceed } => dial_audit.trusts(&host, &detail, proceed),
                    },
                }
            }
        });
        let outcome = outcome.await.unwrap_or(Err(ConnectError::TimedOut { addr, seconds: TRIAL_TIMEOUT.as_secs() }));
        if let Err(error) = &outcome {
            dial_audit.failed(error);
        }
        let mut times = passed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.push(clock::instant());
        Ok(found(steps, &times, outcome.err().map(|error| Failure { error, asked })))
    }
}

/// Returns the result of each of `steps`; `times` holds the start, the time at which each step was passed, and the end.
fn found(steps: Vec<(Option<String>, Step)>, times: &[Instant], failure: Option<Failure>) -> Vec<Found> {
    // The step after the last one that passed is the one that failed, if any did.
    let failed_at = failure.as_ref().map(|_| times.len().saturating_sub(2));
    let took = times.iter().zip(times.iter().skip(1)).map(|(from, to)| to.saturating_duration_since(*from));
    let each = steps.into_iter().zip(took).enumerate();
    each.map(|(at, ((hop, step), took))| Found {
        hop,
        step,
        took,
        failure: failure.clone().filter(|_| failed_at == Some(at)),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_behind_the_last_one_that_was_passed_is_the_one_that_failed() {
        let start = clock::instant();
        let at = |ms: &[u64]| ms.iter().map(|ms| start + Duration::from_millis(*ms)).collect::<Vec<_>>();
        let steps = || vec![(None, Step::Resolve), (Some("bastion".to_owned()), Step::Connect), (None, Step::Terminal)];
        let error = ConnectError::NameNotResolved { host: "h".to_owned() };
        let failure = Failure { error, asked: None };
        let told = |times: &[u64], failure: Option<&Failure>| {
            let found = found(steps(), &at(times), failure.cloned());
            found.iter().map(|found| (found.took.as_millis(), found.failure.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(told(&[0, 5], Some(&failure)), [(5, true)]);
        assert_eq!(told(&[0, 5, 9], Some(&failure)), [(5, false), (4, true)]);
        assert_eq!(told(&[0, 5, 9, 20, 21], None), [(5, false), (4, false), (11, false)]);
    }
}
