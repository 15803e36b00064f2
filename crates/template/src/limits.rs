//! How much a template may do.
//!
//! Go would be given a wall-clock limit. A clock makes the same template fail on a busy machine and pass on an idle one, so the
//! limit is a number of steps instead: the default stands for the 100 ms of the specification and is reached well within them. Who
//! wants a clock too hands one in as [`Limits::deadline`].

use std::fmt;

/// The longest template text: 64 KiB, as the output. Alert texts are below 2 KiB.
const SOURCE_BYTES: usize = 64 * 1024;

/// The longest output, from the specification.
const OUTPUT_BYTES: usize = 64 * 1024;

/// A step takes well below half a microsecond, so this many end before 100 ms.
const STEPS: u64 = 200_000;

/// Blocks, parentheses, template calls and printed lists inside of each other. Written texts have five; a template that calls
/// itself is stopped long before the stack ends.
const DEPTH: usize = 100;

/// Making or comparing this many bytes of text is one step.
const BYTES_OF_STEP: usize = 64;

/// The deadline is asked once in so many steps, since asking may cost more than a step.
const STEPS_BETWEEN_QUESTIONS: u64 = 256;

/// What parsing and rendering may use. Beyond each limit is an error, never a cut text.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Limits<'a> {
    /// Longest template text, bytes.
    pub source_bytes: usize,
    /// Longest output, and longest text made on the way to it, bytes.
    pub output_bytes: usize,
    /// Most steps of one rendering. A node, a command, an argument, a turn of `range`, a printed element, and each 64 bytes of text
    /// that is made or compared are a step each.
    pub steps: u64,
    /// Deepest nesting of blocks, parentheses, template calls and printed lists.
    pub depth: usize,
    /// Asked now and then while rendering; `true` means that the time is over.
    pub deadline: Option<&'a dyn Fn() -> bool>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self {
            source_bytes: SOURCE_BYTES,
            output_bytes: OUTPUT_BYTES,
            steps: STEPS,
            depth: DEPTH,
            deadline: None,
        }
    }
}

impl fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("source_bytes", &self.source_bytes)
            .field("output_bytes", &self.output_bytes)
            .field("steps", &self.steps)
            .field("depth", &self.depth)
            .field("deadline", &self.deadline.is_some())
            .finish()
    }
}

/// Why an evaluation ends early; the place is added by who knows it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Template and data do not fit.
    Mismatch(String),
    /// More than so many bytes.
    Bytes(usize),
    /// More than so many steps.
    Steps(u64),
    /// Deeper than so many levels.
    Depth(usize),
    /// The deadline passed.
    Deadline,
}

impl Fault {
    /// A mismatch.
    pub(crate) fn mismatch<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Mismatch(message.into()))
    }
}

/// What is left of the limits in one rendering.
pub(crate) struct Budget<'a> {
    limits: Limits<'a>,
    steps: u64,
    /// Bytes that are not yet a whole step.
    bytes: usize,
    next_question: u64,
    depth: usize,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(limits: &Limits<'a>) -> Self {
        Self {
            limits: *limits,
            steps: 0,
            bytes: 0,
            next_question: 0,
            depth: 0,
        }
    }

    /// Counts steps.
    pub(crate) fn step(&mut self, count: u64) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(count);
        if self.steps > self.limits.steps {
            return Err(Fault::Steps(self.limits.steps));
        }
        if self.steps > self.next_question {
            self.next_question = self.steps + STEPS_BETWEEN_QUESTIONS;
            if self.limits.deadline.is_some_and(|over| over()) {
                return Err(Fault::Deadline);
            }
        }
        Ok(())
    }

    /// Counts work on text.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<(), Fault> {
        let bytes = self.bytes + count;
        self.bytes = bytes % BYTES_OF_STEP;
        self.step((bytes / BYTES_OF_STEP) as u64)
    }

    /// Whether a text may become so long.
    pub(crate) fn fits(&self, length: usize) -> Result<(), Fault> {
        if length > self.limits.output_bytes {
            return Err(Fault::Bytes(self.limits.output_bytes));
        }
        Ok(())
    }

    /// One level deeper; every success has its [`Budget::leave`] unless the rendering ends.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        if self.depth == self.limits.depth {
            return Err(Fault::Depth(self.limits.depth));
        }
        self.depth += 1;
        Ok(())
    }

    /// One level back.
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }
}
