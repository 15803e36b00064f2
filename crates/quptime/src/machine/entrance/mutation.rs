//! Clauses that a test can break, to show that the exploration notices. Outside this crate's own tests the only value is "none", and every
//! question about it is answered at compile time.

/// A clause left out on purpose.
#[cfg(not(test))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The rule as it is.
    #[default]
    None,
}

/// Asks whether one of these clauses is broken.
macro_rules! broken {
    ($entrance:expr, $($mutation:ident)|+) => {{
        #[cfg(test)]
        {
            {
                let is = |one: &_| matches!(one, $($crate::machine::entrance::mutation::Mutation::$mutation)|+);
                $entrance.mutation.iter().any(is)
            }
        }
        #[cfg(not(test))]
        {
            let _unused = &$entrance;
            false
        }
    }};
}
pub(super) use broken;

/// A clause left out on purpose.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The rule as it is.
    #[default]
    None,
    /// A ticket stays good when the log of its node moves.
    TicketOutlivesLog,
    /// A node follows a founder whatever file was agreed to.
    FollowsOtherFile,
    /// A node follows whoever names it, in whatever life.
    FollowsAnyLife,
    /// A node follows before it is on disk that it left its group.
    FollowsBeforeDisk,
    /// The rule is applied although members with state can elect a leader.
    DisturbsElectable,
    /// The smallest node founds, whoever holds the most.
    SmallestFounds,
    /// Who holds the most is decided by term and index alone.
    IgnoresGeneration,
    /// The founder always takes the file, also where its own log is ahead of it.
    AlwaysFromFile,
    /// The old data goes when the node follows, not when the new group's log begins here.
    DropsOldData,
    /// A node that gave a founding up goes back to its old group.
    GoesBack,
    /// A founding is given up although its log went on.
    GivesUpBegun,
    /// The majority rule does not look for state.
    MajorityDespiteState,
    /// A node that entered a group and got nothing yet has no state as far as the majority rule goes.
    EnteredIsAbsent,
    /// A placeholder is an edit like others.
    PlaceholderIsEdit,
    /// A node in a running group goes over to another one.
    RunningYields,
    /// The rule is applied although a listed peer is in a running group.
    IgnoresRunning,
    /// A founding never ends.
    NeverGivesUp,
    /// An edited node starts its replica at once.
    StartsEdited,
    /// An edit that could wait keeps its node from starting.
    EditsWait,
}
