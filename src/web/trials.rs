//! `POST /api/v1/targets/{name}/test`: whether a target could be opened, step by step. Opens no session.

use actix_web::{HttpRequest, Responder, web};
use serde::Serialize;

use super::{audit::Visitor, auth::Caller, error::Problem, opening::Opening, state::State};
use crate::{
    actor::gateway::{Failure, Found},
    core::people::Right,
    ssh::{ConnectError, PromptKind},
};

#[derive(Serialize)]
struct Trial {
    ok: bool,
    steps: Vec<StepView>,
}

#[derive(Serialize)]
struct StepView {
    step: &'static str,
    hop: Option<String>,
    ok: bool,
    /// Whether a user would be asked here; a test asks nobody.
    asks: bool,
    ms: u64,
    message: Option<String>,
}

/// Tests a target, 200 whatever the result. A caller who may open it may test it, within the limits of an open and a
/// few times a minute.
pub async fn test(
    request: HttpRequest,
    state: web::Data<State>,
    caller: Caller,
    name: web::Path<String>,
) -> Result<impl Responder, Problem> {
    let caller = caller.recheck(&state, Some(Right::Open))?;
    let visitor = Visitor::of(&request, &state, &caller);
    let (trusts, from) = (caller.has(Right::Trust), visitor.client_ip);
    let directory = state.gateway.people().directory();
    let open = Opening::of(&name).check(&caller.user, &caller.access, trusts, from, &state.settings, &directory)?;
    if let Some(wait) = state.trials.wait(state.now(), &caller.user) {
        let detail = "You tried targets out too often within a minute. Wait a moment.";
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    state.trials.note(state.now(), &caller.user);
    let gateway = state.gateway.clone();
    // A task of its own: it is audited even if the client disconnects first.
    let trial = actix_web::rt::spawn(async move {
        let found = gateway.try_out(open).await;
        visitor.tries_out(&gateway, &name, &found);
        found
    });
    let found = trial.await.map_err(|_| Problem::internal())??;
    let ok = found.iter().all(|found| found.failure.is_none());
    Ok(web::Json(Trial { ok, steps: found.iter().map(view).collect() }))
}

fn view(found: &Found) -> StepView {
    StepView {
        step: found.step.as_str(),
        hop: found.hop.clone(),
        ok: found.failure.is_none(),
        asks: found.failure.as_ref().is_some_and(|failure| failure.asked.is_some()),
        ms: u64::try_from(found.took.as_millis()).unwrap_or(u64::MAX),
        message: found.failure.as_ref().map(message),
    }
}

/// Describes the failure, without the hop, which has a field of its own; and the question that a user would have been
/// asked.
fn message(failure: &Failure) -> String {
    let error = match &failure.error {
        ConnectError::AtHop { error, .. } => error,
        error => error,
    };
    match (failure.asked, error) {
        (Some(PromptKind::SharedHostKey), ConnectError::HostKeyUnknown { host, presented }) => format!(
            "{host} shows the host key {presented}, which is not known yet. A test asks nobody: open a session, compare the key \
             with what the host's operator says, and answer yes."
        ),
        (Some(PromptKind::Password), _) => {
            "It asks for a password or a passphrase, and a test asks nobody. Open a session and type it there."
                .to_owned()
        }
        (Some(PromptKind::KeyboardInteractive), _) => {
            "It asks questions, and a test answers none. Open a session and answer them there.".to_owned()
        }
        (_, error) => error.to_string(),
    }
}
