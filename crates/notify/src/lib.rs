//! Alert channels: mail, chat, pagers and webhooks.
//!
//! A program that has something to tell builds a [`Message`] (texts already rendered, everything a channel may need as plain
//! data), keeps [`Channel`]s in its settings, and calls [`Sender::send`]: one attempt, with a deadline over all of it, that ends
//! in a [`Receipt`] or in a [`Failure`] that says whether trying again makes sense. When to try again, in which order, and from
//! which node is the caller's business; nothing here keeps a queue, repeats anything, or renders templates.
//!
//! **Repeats.** An attempt may end so that nobody knows whether the other end took the message ([`Failure::uncertain`], or a
//! crash of the caller). The next attempt sets [`Message::repeat`]. Channels that [`Channel::deduplicates`] send the same key
//! again and the receiver drops the second copy; the others add `(may be a repeat)` to the text.
//!
//! **Late.** Between the caller's decision to send and the first byte on the wire lie a name, a connection and a handshake, and anything
//! can have happened meanwhile. A [`Gate`] is asked once more when all of that is done.
//!
//! **Invariant:** no text of a failure, no `Debug` output and no error contains a secret. Addresses of webhooks are secrets
//! themselves, so texts name scheme and host only, and whatever a server answers is searched for secrets before it is quoted.
//!
//! **Invariant:** no redirect is followed, so a secret goes only to the host that the settings name.
//!
//! **Invariant:** no text of a message can become a header, another recipient, or a command to a mail server.

mod channel;
mod channels;
mod check;
mod failure;
mod gate;
mod http;
mod message;
mod sender;
mod smtp;
mod text;
mod tls;

pub use channel::{Alertmanager, Channel, Discord, Ntfy, PagerDuty, Slack, Smtp, Webhook};
pub use channels::webhook::{SIGNATURE_HEADER, sign};
pub use failure::{Failure, Kind, Receipt};
pub use gate::Gate;
pub use message::{Link, Message, Pairs, Severity, Verb};
pub use sender::{DEFAULT_DEADLINE, Options, Sender, SenderError};
pub use service::settings::Secret;
pub use text::REPEAT_MARK;
