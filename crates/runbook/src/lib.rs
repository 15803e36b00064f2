//! Executable runbooks: Markdown pages that a person reads at three in the morning and a program can carry out.
//!
//! A page is ordinary Markdown. A fence such as ```` ```sh step=status on=node1 ```` is a *step*: what stands after the
//! language word is invisible to the reader of the rendered page and tells the runner where and how to run it. An
//! ```` ```output ```` fence after it says what the step prints. `docs/dev/runbooks.md` is the format's reference.
//!
//! Reading order: [`model`] (what a page is), [`parse`] (text to page, every mistake with its place), [`output`] (what a
//! step may print), [`rules`] (which alerts send their reader to which page), [`host`] and [`lab_state`] (where steps run), [`runner`] (which run, in what order, when to stop),
//! [`transcript`] (what happened), [`cli`] (the commands).
//!
//! Invariants: parsing does no IO, is bounded ([`parse::PAGE_BYTES_MAX`], [`parse::STEPS_MAX`]) and never panics on any
//! input; a page with errors is never run; parameters reach a step as environment variables, never as pasted text; a
//! destructive step runs only after a person or `--yes` allowed it.

pub mod attribute;
pub mod check;
pub mod cli;
pub mod host;
pub mod lab_state;
pub mod library;
pub mod model;
pub mod output;
pub mod parse;
pub mod problem;
pub mod programs;
pub mod render;
pub mod rules;
pub mod runner;
pub mod ssh;
pub mod transcript;

pub use model::Page;
pub use parse::parse;
pub use problem::Problem;
