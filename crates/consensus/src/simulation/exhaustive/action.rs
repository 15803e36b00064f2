//! What can happen, and how it reads in a counterexample.

use std::fmt;
use std::rc::Rc;

use crate::{Body, Message};

/// Something that happens. Members by their place, from 0.
#[derive(Clone)]
pub(super) enum Action {
    Hear(u32, Rc<Message>),
    /// In an opening: all that is on its way to this member.
    HearAll(usize),
    Stand(usize),
    Recover {
        by: usize,
        wide: bool,
    },
    Append {
        from: usize,
        to: usize,
        short: bool,
    },
    Heartbeat {
        from: usize,
        to: usize,
    },
    Admit {
        by: usize,
        node: usize,
    },
    Put(usize),
    Remove {
        by: usize,
        node: usize,
    },
    Promote {
        by: usize,
        node: usize,
    },
    Restart(usize),
    Wipe(usize),
    Copy(usize),
    Restore(usize),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |at: &usize| at + 1;
        match self {
            Action::Hear(_, message) => {
                let Message {
                    from, to, term, body, ..
                } = &**message;
                let (life, flag) = (
                    message.from_incarnation,
                    if message.recovering { ", flagged" } else { "" },
                );
                write!(f, "{to} hears from {from} (life {life}, term {term:?}{flag}): ")?;
                match body {
                    Body::Append { entries, commit, .. } => {
                        let entries: Vec<_> = entries
                            .iter()
                            .map(|entry| (entry.position(), entry.kind))
                            .collect();
                        write!(f, "append {entries:?}, commit {commit}")
                    }
                    body => write!(f, "{body:?}"),
                }
            }
            Action::HearAll(at) => write!(f, "{} hears everything", id(at)),
            Action::Stand(by) => write!(f, "{} stands", id(by)),
            Action::Recover { by, wide } => {
                write!(f, "{} holds a recovery election, wide leap: {wide}", id(by))
            }
            Action::Append { from, to, short } => {
                write!(f, "{} sends its log to {}, short: {short}", id(from), id(to))
            }
            Action::Heartbeat { from, to } => write!(f, "{} tells {} what is committed", id(from), id(to)),
            Action::Admit { by, node } => write!(f, "{} admits {}", id(by), id(node)),
            Action::Put(by) => write!(f, "a client asks {}", id(by)),
            Action::Remove { by, node } => write!(f, "{} removes {}", id(by), id(node)),
            Action::Promote { by, node } => write!(f, "{} promotes {}", id(by), id(node)),
            Action::Restart(at) => write!(f, "{} starts again", id(at)),
            Action::Wipe(at) => write!(f, "{} is wiped", id(at)),
            Action::Copy(at) => write!(f, "{} is copied", id(at)),
            Action::Restore(at) => write!(f, "{} is restored from its copy", id(at)),
        }
    }
}
