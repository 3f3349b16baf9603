//! The actions to take where the actors, the live view and the records disagree over a session: the table of
//! `docs/design.md` §7 as a pure plan. Knows no store; carries nothing out.

use super::{neighbours::Standing, record::words};

/// The answer of one store about one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreAnswer {
    /// It was not asked.
    Unasked,
    /// It does not have the session.
    Nothing,
    /// It has this version.
    Version {
        /// Its rank.
        rank: u64,
        /// Whether it is closed.
        closed: bool,
    },
}

impl StoreAnswer {
    fn is_open(self) -> bool {
        matches!(self, Self::Version { closed: false, .. })
    }

    fn is_closed(self) -> bool {
        matches!(self, Self::Version { closed: true, .. })
    }

    /// Whether it was asked and has an older version than `known`.
    fn is_behind(self, known: u64) -> bool {
        match self {
            Self::Unasked => false,
            Self::Nothing => true,
            Self::Version { rank, .. } => rank < known,
        }
    }
}

/// The owner of a session, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This start of this node.
    Own {
        /// Whether its right to serve is over.
        fenced: bool,
    },
    /// An earlier start of this node.
    Earlier,
    /// Another node.
    Other(Standing),
}

/// One session, as seen by its actor and the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The session's owner.
    pub owner: Owner,
    /// The rank that is durable, if an actor serves it here.
    pub actor: Option<u64>,
    /// The answer of the live view.
    pub live: StoreAnswer,
    /// The answer of the records.
    pub records: StoreAnswer,
}

words! {
    /// An action, or an alarm.
    Action {
        /// Show it in the live view again.
        Republish => "republish",
        /// Write it to the records again.
        Rewrite => "rewrite",
        /// End it: its node lost the right to serve it.
        EndFenced => "end_fenced",
        /// Close it from the journal; if the journal does not know of its end either, its actor failed.
        CloseStray => "close_stray",
        /// Close it: an earlier start of this node left it open.
        CloseEarlier => "close_earlier",
        /// Close it on behalf of another node, by inference unless its end is known.
        Infer => "infer",
        /// Remove it from the live view.
        Tombstone => "tombstone",
        /// The records say that it is closed while it is served: raise an alarm, end nothing.
        AlarmServing => "alarm_serving",
        /// The live view shows it and the records do not have it: raise an alarm, keep it.
        AlarmUnrecorded => "alarm_unrecorded",
        /// Its row in the records was edited and kept a rank that no repair is above: raise an alarm.
        AlarmContradiction => "alarm_contradiction",
    }
}

impl Action {
    /// Whether it only raises an alarm.
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::AlarmServing | Self::AlarmUnrecorded | Self::AlarmContradiction)
    }
}

/// Returns the actions for one session. The plan is normally empty: with healthy actors a sweep changes nothing.
pub fn plan(sighting: &Sighting) -> Vec<Action> {
    let Sighting { owner, actor, live, records } = *sighting;
    match (owner, actor) {
        (Owner::Own { fenced: true }, Some(_)) => vec![Action::EndFenced],
        (_, Some(_)) if records.is_closed() => vec![Action::AlarmServing],
        (_, Some(rank)) => {
            let republish = live.is_behind(rank).then_some(Action::Republish);
            let rewrite = records.is_behind(rank).then_some(Action::Rewrite);
            republish.into_iter().chain(rewrite).collect()
        }
        (_, None) if live.is_open() && records.is_closed() => vec![Action::Tombstone],
        (Owner::Own { .. }, None) if live.is_open() || records.is_open() => vec![Action::CloseStray],
        (Owner::Earlier, None) if records.is_open() => vec![Action::CloseEarlier],
        (Owner::Other(Standing::Fenced), None) if records.is_open() => vec![Action::Infer],
        (Owner::Earlier | Owner::Other(Standing::Fenced), None)
            if live.is_open() && records == StoreAnswer::Nothing =>
        {
            vec![Action::AlarmUnrecorded]
        }
        // A session that its owner serves, or may still serve, is for its owner to repair.
        (Owner::Own { .. } | Owner::Earlier | Owner::Other(_), None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action::*, StoreAnswer::*, *};

    const OPEN: StoreAnswer = Version { rank: 5, closed: false };
    const OLDER: StoreAnswer = Version { rank: 4, closed: false };
    const CLOSED: StoreAnswer = Version { rank: 9, closed: true };
    const OWN: Owner = Owner::Own { fenced: false };

    fn planned(owner: Owner, actor: Option<u64>, live: StoreAnswer, records: StoreAnswer) -> Vec<Action> {
        plan(&Sighting { owner, actor, live, records })
    }

    #[test]
    fn the_table_of_the_design_holds() {
        let serving = Owner::Other(Standing::Serving);
        let lost = Owner::Other(Standing::Lost);
        let fenced = Owner::Other(Standing::Fenced);
        type Row = (Owner, Option<u64>, StoreAnswer, StoreAnswer, &'static [Action]);
        let table: &[Row] = &[
            (OWN, Some(5), OPEN, OPEN, &[]),
            (OWN, Some(5), Unasked, OPEN, &[]),
            (OWN, Some(5), Nothing, OPEN, &[Republish]),
            (OWN, Some(5), OLDER, OPEN, &[Republish]),
            (OWN, Some(5), OPEN, Nothing, &[Rewrite]),
            (OWN, Some(5), OPEN, OLDER, &[Rewrite]),
            (OWN, Some(5), Nothing, OLDER, &[Republish, Rewrite]),
            (OWN, Some(5), OPEN, CLOSED, &[AlarmServing]),
            (OWN, Some(5), Nothing, CLOSED, &[AlarmServing]),
            (Owner::Own { fenced: true }, Some(5), OPEN, CLOSED, &[EndFenced]),
            (Owner::Own { fenced: true }, Some(5), OPEN, OPEN, &[EndFenced]),
            (OWN, None, OPEN, OPEN, &[CloseStray]),
            (OWN, None, Nothing, OPEN, &[CloseStray]),
            (OWN, None, OPEN, Nothing, &[CloseStray]),
            (OWN, None, OPEN, CLOSED, &[Tombstone]),
            (Owner::Earlier, None, OPEN, OPEN, &[CloseEarlier]),
            (Owner::Earlier, None, Nothing, OPEN, &[CloseEarlier]),
            (Owner::Earlier, None, OPEN, CLOSED, &[Tombstone]),
            (Owner::Earlier, None, OPEN, Nothing, &[AlarmUnrecorded]),
            (serving, None, Nothing, OPEN, &[]),
            (serving, None, OPEN, Nothing, &[]),
            (lost, None, OPEN, OPEN, &[]),
            (lost, None, Nothing, OPEN, &[]),
            (fenced, None, OPEN, OPEN, &[Infer]),
            (fenced, None, Nothing, OPEN, &[Infer]),
            (fenced, None, OPEN, CLOSED, &[Tombstone]),
            (fenced, None, OPEN, Nothing, &[AlarmUnrecorded]),
            (fenced, None, Nothing, CLOSED, &[]),
        ];
        for (owner, actor, live, records, expected) in table {
            assert_eq!(planned(*owner, *actor, *live, *records), *expected, "{owner:?} {actor:?} {live:?} {records:?}");
        }
    }

    /// I6, I14: over every combination, a session that is served is ended by a fence only, and sessions are closed on
    /// behalf of a fenced node only.
    #[test]
    fn no_plan_ends_what_serves_or_may_serve() {
        let said = [Unasked, Nothing, OPEN, OLDER, CLOSED];
        let standings = [Standing::Serving, Standing::Lost, Standing::Left, Standing::Fenced].map(Owner::Other);
        for owner in [OWN, Owner::Own { fenced: true }, Owner::Earlier].into_iter().chain(standings) {
            for actor in [None, Some(5)] {
                for (live, records) in said.iter().flat_map(|live| said.map(|records| (*live, records))) {
                    let actions = planned(owner, actor, live, records);
                    let ends = [EndFenced, CloseStray, CloseEarlier, Infer];
                    let ending = actions.iter().any(|action| ends.contains(action));
                    assert!(!ending || actor.is_none() || owner == Owner::Own { fenced: true });
                    if let Owner::Other(standing) = owner {
                        assert!(!ending || standing == Standing::Fenced);
                    }
                    assert!(actions.len() < 2 || actor.is_some());
                }
            }
        }
    }

    /// A second sweep after the plan was carried out finds nothing to do.
    #[test]
    fn what_was_mended_stays_mended() {
        for (live, records) in [(Nothing, OPEN), (OPEN, Nothing), (OLDER, OLDER), (OPEN, OPEN)] {
            let actions = planned(OWN, Some(5), live, records);
            let live = if actions.contains(&Republish) { OPEN } else { live };
            let records = if actions.contains(&Rewrite) { OPEN } else { records };
            assert_eq!(planned(OWN, Some(5), live, records), []);
        }
        assert_eq!(planned(OWN, None, Nothing, CLOSED), []);
        assert_eq!(planned(Owner::Other(Standing::Fenced), None, Nothing, CLOSED), []);
    }
}
