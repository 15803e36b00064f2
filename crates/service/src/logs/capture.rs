//! Log lines caught in memory, for tests that pin them.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

use super::layer::LineLayer;
use super::{Format, LogHandle, filter};
use crate::clock::ManualClock;

/// Catches what the current thread logs until dropped. Time stamps show 1970.
#[derive(Debug)]
pub struct Capture {
    lines: Arc<Mutex<String>>,
    handle: LogHandle,
    _installed: DefaultGuard,
}

/// Starts catching the current thread's lines at `level`. Nothing of other threads is seen.
///
/// # Panics
///
/// If `level` is not one, since only tests call this.
pub fn capture(format: Format, level: &str) -> Capture {
    let lines = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&lines);
    let layer = LineLayer::new(
        format,
        false,
        false,
        Arc::new(ManualClock::default()),
        Arc::new(move |line: &str| sink.lock().push_str(line)),
    );
    let (filter, reload) = reload::Layer::new(filter::parse(level).expect("the test names a log level"));
    let installed = tracing::subscriber::set_default(tracing_subscriber::registry().with(filter).with(layer));
    Capture {
        lines,
        handle: LogHandle { reload },
        _installed: installed,
    }
}

impl Capture {
    /// Everything caught so far, each line with its newline.
    pub fn text(&self) -> String {
        self.lines.lock().clone()
    }

    /// Changes the level.
    pub fn handle(&self) -> &LogHandle {
        &self.handle
    }
}
