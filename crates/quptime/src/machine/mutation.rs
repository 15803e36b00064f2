//! Clauses that a test can break, to show that the simulation notices. Outside this crate's own tests every question about one is answered
//! at compile time: it holds.

/// Asks whether this clause is broken.
macro_rules! broken {
    ($mutation:ident) => {{
        #[cfg(test)]
        {
            $crate::machine::mutation::BROKEN.get() == $crate::machine::mutation::Mutation::$mutation
        }
        #[cfg(not(test))]
        {
            false
        }
    }};
}
pub(crate) use broken;

#[cfg(test)]
thread_local! {
    /// What is broken in this test.
    pub(crate) static BROKEN: std::cell::Cell<Mutation> = const { std::cell::Cell::new(Mutation::None) };
}

/// A clause left out on purpose.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Everything holds.
    #[default]
    None,
    /// A message whose master died is sent again without the mark.
    TakeoversUnmarked,
    /// Messages of one check to one alert overtake each other.
    NoOrder,
    /// How an attempt ended is not proposed again when that was lost.
    EndsAreForgotten,
    /// Outages are told although what they depend on is down.
    ParentsIgnored,
    /// What was held is told without a round of its own.
    NoOwnRound,
    /// Outages are told during announced work.
    WorkIgnored,
    /// Checks that flap go on being held when damping is switched off.
    AlwaysDamps,
    /// Deliveries wait for the clock alone.
    WaitsFollowClock,
    /// Checks are removed and disabled without a word to those who know of an outage.
    EndedSilently,
    /// Whoever was told that a check flaps and is not told of it any more hears no end.
    DetachedUnclosed,
    /// Outages end and nobody can look them up.
    EndsForgotten,
    /// Reminders are due when the clock says so.
    RemindersFollowClock,
    /// Whoever was never told of an outage is told that its check was removed.
    ClosedUnheard,
    /// A leader takes commands while somebody who is no peer is a member still.
    CommandsWhileSomebodyLeaves,
    /// A new leader takes commands before it knows what was agreed on before its term.
    CommandsUnsettled,
}
