//! Limits the audit entries about pages of other origins: that they try and from where, but not each of the thousands
//! of requests that such a page can send. Does not know the rules about origins.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use actix_web::HttpRequest;

use super::{client, error::Problem, state::State, throttle::Throttle};
use crate::core::audit::{Action, Deed};

/// Entries of one address within a minute.
const OF_ONE: u32 = 3;

/// Entries of all addresses within a minute: at most 8 MB a day.
const OF_ALL: u32 = 20;

/// The key under which all addresses are counted together.
const ALL: &str = "";

/// The number of recent entries.
pub struct Foreign {
    each: Throttle<IpAddr>,
    all: Throttle<str>,
    untold: AtomicU64,
}

impl Default for Foreign {
    fn default() -> Self {
        Self { each: Throttle::new(OF_ONE), all: Throttle::new(OF_ALL), untold: AtomicU64::new(0) }
    }
}

impl Foreign {
    /// Counts one more request of `from`: returns how many were left out since the last entry if this one is to be
    /// recorded, else `None`.
    fn tells(&self, now: Duration, from: IpAddr) -> Option<u64> {
        if self.each.wait(now, &from).is_some() || self.all.wait(now, ALL).is_some() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.each.note(now, &from);
        self.all.note(now, ALL);
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

/// Records, within limits, that `who` was refused because of the request's origin.
pub(super) fn note(request: &HttpRequest, who: &str, origin: Option<&str>) -> Result<(), Problem> {
    let state = State::of(request)?;
    let from = client::client_ip(request, &state.settings);
    let Some(untold) = state.foreign.tells(state.now(), from) else { return Ok(()) };
    let asked = format!("{} {}", request.method(), request.path());
    let detail = match untold {
        0 => format!("{asked} was refused to a page of another origin."),
        more => format!(
            "{asked} was refused to a page of another origin; {more} such requests before this one are not told."
        ),
    };
    let subject = origin.unwrap_or("no origin");
    state.gateway.audit().note(Deed::refused(Action::OriginRefused, who, from, subject, &detail));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    #[test]
    fn a_flood_of_foreign_requests_is_told_in_bounds_and_counted() {
        let foreign = Foreign::default();
        let told = |now, address: [u8; 4]| foreign.tells(now, address.into());
        for _ in 0..OF_ONE {
            assert_eq!(told(NOON, [192, 0, 2, 1]), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(told(NOON, [192, 0, 2, 1]), None);
        }
        assert_eq!(told(NOON, [192, 0, 2, 2]), Some(1_000), "another address is told, with what was not");
        let others = (3..=250).filter(|last| told(NOON, [192, 0, 2, *last]).is_some()).count();
        assert_eq!(others, (OF_ALL - OF_ONE - 1) as usize, "many addresses find no more room than one");
        let later = NOON + Duration::from_secs(60);
        assert_eq!(told(later, [192, 0, 2, 1]), Some(248 - others as u64));
    }
}
