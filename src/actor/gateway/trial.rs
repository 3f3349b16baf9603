//! A target tried out: dialled as for a session, with nobody there to answer, and hung up. Leaves no record.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{Gateway, GatewayError, OpenSession};
use crate::{
    actor::{clock, registry::RegistryMessage, session::Witness},
    ssh::{ConnectError, DialEvent, PromptKind, Step},
};

/// How long a trial may take: whoever asked for it waits, and a page gives an answer up after 15 s.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(13);

/// What was found at one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The jump host; `None` is the target.
    pub hop: Option<String>,
    /// The step.
    pub step: Step,
    /// How long it took.
    pub took: Duration,
    /// What went wrong; nothing follows then.
    pub failure: Option<Failure>,
}

/// Why a step was not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub error: ConnectError,
    /// What a person would have been asked there.
    pub asked: Option<PromptKind>,
}

impl Gateway {
    /// Dials as for `request` and hangs up where a shell would start; the steps as far as they were taken. It is admitted as
    /// a session would be, and the audit log hears of host keys and of channels opened unasked as it would there.
    ///
    /// # Errors
    /// [`GatewayError`], where a session would not be admitted; nothing was dialled then.
    pub async fn try_out(&self, request: OpenSession) -> Result<Vec<Found>, GatewayError> {
        self.admits()?;
        let username = request.username.clone();
        self.ask(|reply| RegistryMessage::Admits { username, reply }).await??;
        let witness = Witness::new(&self.deps, &request);
        let (events, mut heard) = mpsc::channel(1);
        let passed = Arc::new(Mutex::new(vec![clock::instant()]));
        let mut dial = request.dial("test".to_owned(), events, Arc::new(|| {}));
        let (steps, addr) = (dial.steps(), dial.host.clone());
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
                        DialEvent::Unasked { hop, kind } => witness.unasked(hop.as_deref(), kind),
                        DialEvent::Trusting { host, detail, proceed } => witness.trusts(&host, &detail, proceed),
                    },
                }
            }
        });
        let outcome = outcome.await.unwrap_or(Err(ConnectError::TimedOut { addr, seconds: TRIAL_TIMEOUT.as_secs() }));
        if let Err(error) = &outcome {
            witness.failed(error);
        }
        let mut times = passed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.push(clock::instant());
        Ok(found(steps, &times, outcome.err().map(|error| Failure { error, asked })))
    }
}

/// What was found at each of `steps`; `times` holds the start, when each step was passed, and the end.
fn found(steps: Vec<(Option<String>, Step)>, times: &[Instant], failure: Option<Failure>) -> Vec<Found> {
    // Behind the last step that was passed stands the one that was not, or nothing.
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
