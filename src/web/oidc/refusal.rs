//! The reasons why the provider's answer signs nobody in: one sentence for the user, one for the audit log.

use crate::{
    core::oidc::Unnamed,
    notify::provider::Failure,
    web::error::{Problem, quoted},
};

/// The reason why a sign-in fails.
#[derive(Debug)]
pub enum Refusal {
    /// No such sign-in is pending: it was not begun, begun in another browser or too long ago, or is finished.
    NotUnderWay,
    /// The answer is from another provider.
    Another,
    /// The provider itself refused, with this error code.
    ProviderError(String),
    /// The provider's answer cannot be obtained, or is not valid.
    Failed(Failure),
    /// The user's claims give no valid name.
    Unnamed(Unnamed),
    /// The user is in no admitted group.
    InNoGroup {
        /// Their name here, if they have one already; else their name at the provider.
        user: String,
    },
    /// A user who does not sign in with the provider has their name.
    Taken {
        /// The name.
        user: String,
    },
    /// The user was disabled here.
    Disabled {
        /// Their name.
        user: String,
    },
    /// Another problem.
    Other(Problem),
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Refusal {
    /// Whether the browser's parameters may have been a guess: then it is counted as a wrong password. A fault of the
    /// provider locks nobody out of the other ways to sign in.
    pub fn counts(&self) -> bool {
        match self {
            Self::NotUnderWay | Self::Another => true,
            Self::Failed(Failure::Refused(word)) => word == "invalid_grant",
            Self::Failed(Failure::Away(_) | Failure::Unusable(_) | Failure::Rejected(_))
            | Self::ProviderError(_)
            | Self::Unnamed(_)
            | Self::InNoGroup { .. }
            | Self::Taken { .. }
            | Self::Disabled { .. }
            | Self::Other(_) => false,
        }
    }

    /// Returns the user's name, as far as it is known.
    pub fn user(&self) -> &str {
        match self {
            Self::InNoGroup { user } | Self::Taken { user } | Self::Disabled { user } => user,
            Self::NotUnderWay
            | Self::Another
            | Self::ProviderError(_)
            | Self::Failed(_)
            | Self::Unnamed(_)
            | Self::Other(_) => "",
        }
    }

    /// Returns the text for the audit log.
    pub fn for_the_log(&self) -> String {
        match self {
            Self::NotUnderWay => "no such sign-in was under way in that browser.".to_owned(),
            Self::Another => "the answer was not the provider's: its iss is missing or another.".to_owned(),
            Self::ProviderError(word) => format!("the provider said {}.", quoted(word)),
            Self::Failed(failure) => format!("{failure}."),
            Self::Unnamed(why) => format!("{why}. See sign_in.oidc.user_claim."),
            Self::InNoGroup { .. } => "in no group of sign_in.oidc.roles.".to_owned(),
            Self::Taken { user } => format!("{user} is somebody here who does not sign in with it."),
            Self::Disabled { .. } => "disabled here.".to_owned(),
            Self::Other(problem) => problem.detail().to_owned(),
        }
    }

    /// Returns the answer to the user; `name`: the provider's display name.
    pub fn problem(self, name: &str) -> Problem {
        const ASK: &str = "Ask your administrator.";
        match self {
            Self::NotUnderWay => Problem::not_let_in(
                "This sign-in is not under way here: it was finished already, took longer than ten minutes, or was begun in another \
                 browser. Begin again.",
            ),
            Self::Another => Problem::not_let_in(format!(
                "The answer did not come from {name}, so nobody was signed in. Begin again."
            )),
            Self::ProviderError(word) if word == "access_denied" => Problem::not_let_in(format!(
                "{name} did not sign you in: you declined, or it does not let you in here."
            )),
            Self::ProviderError(word) => {
                Problem::not_let_in(format!("{name} did not sign you in: {}. {ASK}", quoted(&word)))
            }
            Self::Failed(Failure::Refused(word)) => Problem::not_let_in(format!(
                "{name} did not confirm this sign-in ({word}). Begin again; if it stays so, ask your administrator."
            )),
            Self::Failed(Failure::Rejected(why)) => {
                Problem::not_let_in(format!("What {name} says of you counts for nothing here: {why}. {ASK}"))
            }
            Self::Failed(failure @ (Failure::Away(_) | Failure::Unusable(_))) => Problem::unavailable(
                format!("{name} cannot be asked just now: {failure}. Try again in a moment, or sign in another way."),
                5,
            ),
            Self::Unnamed(why) => Problem::not_let_in(format!("{name} signed you in, but {why}. {ASK}")),
            Self::InNoGroup { .. } => Problem::not_let_in(format!(
                "{name} signed you in, but you are in none of the groups that may use this gateway. {ASK}"
            )),
            Self::Taken { user } => Problem::not_let_in(format!(
                "{name} signed you in, but somebody here is called {user} already and does not sign in with {name}. {ASK} They can \
                 remove that user, who is then made anew when you sign in."
            )),
            Self::Disabled { user } => Problem::not_let_in(format!("{user} was disabled here. {ASK}")),
            Self::Other(problem) => problem,
        }
    }
}
