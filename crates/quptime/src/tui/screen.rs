//! The terminal: taken over while the program runs, and given back as it was, whether the program ends by a key, a signal, an error or a
//! panic.

use std::io::IsTerminal as _;

use nix::sys::signal::{SigSet, Signal};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;

/// Exit code of a program that panicked, as Rust has it.
const PANICKED: i32 = 101;

/// The terminal while it is ours.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// There is none, or it cannot be set up.
    pub(super) fn open() -> anyhow::Result<Screen> {
        anyhow::ensure!(
            std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
            "qu tui needs a terminal; qu status prints the same once"
        );
        // A panic of any thread is the end: without that thread the screen would be a picture of the past.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            std::process::exit(PANICKED);
        }));
        // Gives the terminal back before a panic is told.
        let terminal = ratatui::try_init()?;
        let screen = Screen { terminal };
        // So that a pasted line end does not send a form.
        execute!(std::io::stdout(), EnableBracketedPaste)?;
        Ok(screen)
    }

    /// The terminal, to draw on.
    pub(super) fn terminal(&mut self) -> &mut DefaultTerminal {
        &mut self.terminal
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = execute!(std::io::stdout(), DisableBracketedPaste);
        let _ = ratatui::try_restore();
    }
}

/// Signals that end the program in order, kept from ending it at once. To be called before other threads are there.
///
/// # Errors
/// The system refuses.
pub(super) fn hold_signals() -> anyhow::Result<SigSet> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block()?;
    Ok(signals)
}
