//! Whether the registry answers: one question at a time, shared by all who ask. Knows no store.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{FutureExt, Shared};
use tokio::{sync::oneshot, time::timeout_at};

use super::Gateway;
use crate::actor::{clock, mailbox::Mailbox, registry::RegistryMessage};

/// Time within which a registry that is well has answered: far longer than it takes under full load.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// An answer to come. It fails if the question is lost.
type Answer = Shared<oneshot::Receiver<usize>>;

/// The question that waits for its answer, and when it was asked; `None` if there is none.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<Mutex<Option<(Instant, Answer)>>>);

impl Pulse {
    /// Returns the waiting question, or asks a new one.
    fn ask(&self, registry: &Mailbox<RegistryMessage>) -> (Instant, Answer) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The task below ends with its thread, and may leave a question behind that is lost.
        if let Some((since, answer)) = waiting.as_ref().filter(|(_, answer)| answer.peek().is_none()) {
            return (*since, answer.clone());
        }
        let (reply, answer) = oneshot::channel();
        let (since, answer) = (clock::instant(), answer.shared());
        *waiting = Some((since, answer.clone()));
        let (registry, pulse, own) = (registry.clone(), self.clone(), answer.clone());
        actix::spawn(async move {
            // Whatever became of it, the next one to ask asks anew. A full mailbox is no failure: this waits beside it.
            registry.deliver(RegistryMessage::Count(reply)).await.ok();
            pulse.0.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(_, answer)| answer.ptr_eq(&own));
        });
        (since, answer)
    }
}

impl Gateway {
    /// Returns the actor that does not answer, in words. A stuck thread of the actors shows here too.
    pub(super) async fn unanswered(&self) -> Vec<&'static str> {
        let (since, answer) = self.pulse.ask(&self.deps.registry);
        let answers = timeout_at((since + ANSWERS_WITHIN).into(), answer).await.is_ok_and(|answer| answer.is_ok());
        if answers { Vec::new() } else { vec!["registry does not answer"] }
    }
}

#[cfg(test)]
mod tests {
    use actix::{AsyncContext, Context};
    use futures_util::future::join_all;

    use super::*;
    use crate::actor::{
        mailbox::Meter,
        registry::RegistryActor,
        tests::house::{House, eventually},
    };

    #[actix_rt::test]
    async fn a_registry_that_does_not_answer_is_asked_once_by_all_and_is_not_ready() {
        let mut house = House::new().await;
        assert_eq!(house.gateway.readiness().await.reasons, [""; 0]);
        // Nobody reads this mailbox.
        let (context, meter) = (Context::<RegistryActor>::new(), Meter::new(1));
        let mute = Mailbox::new(context.address().recipient(), meter.clone());
        let well = std::mem::replace(&mut house.gateway.deps.registry, mute);
        let gateway = &house.gateway;
        let found = join_all((0..50).map(|_| gateway.readiness())).await;
        assert!(found.iter().all(|found| found.reasons == ["registry does not answer"]), "{found:?}");
        let begun = clock::instant();
        assert_eq!(gateway.readiness().await.reasons, ["registry does not answer"]);
        assert!(clock::instant().saturating_duration_since(begun) < ANSWERS_WITHIN, "it is known by now");
        assert_eq!(meter.depth(), 1, "questions that wait");
        house.gateway.deps.registry = well;
        drop(context);
        eventually(async || house.gateway.readiness().await.reasons.is_empty()).await;
    }

    #[actix_rt::test]
    async fn an_answer_that_nobody_waits_for_says_nothing_of_later() {
        let house = House::new().await;
        drop(house.gateway.pulse.ask(&house.gateway.deps.registry));
        eventually(async || house.gateway.pulse.0.lock().unwrap().is_none()).await;
    }
}
