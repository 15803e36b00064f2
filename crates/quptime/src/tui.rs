//! `qu tui`: nodes, checks and alerts on one screen, seen and changed with keys.
//!
//! It shows what the daemon says and gives orders that commands give as well; it decides nothing. One value knows what is on the screen
//! ([`state`], with [`form`], [`field`] and the tables of lines in [`lines`]); [`rows`] and [`draw`] make a picture of it; both are pure.
//! Around them: [`work`] talks to the daemon on threads of its own, so that keys are taken while it hangs, and [`screen`] gives the
//! terminal back however the program ends.

mod draw;
mod field;
mod form;
mod lines;
mod order;
mod rows;
mod screen;
mod state;
mod text;
mod work;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use service::SystemClock;

use order::News;
use screen::Screen;
use state::{State, Wish};
use work::Work;

/// How often the picture is made anew when nothing happens: times are shown in seconds.
const TICK: Duration = Duration::from_secs(1);

/// Whatever happens to the screen.
enum Happening {
    Terminal(Event),
    News(News),
    /// A signal, or a terminal that is gone.
    End,
}

/// Runs until somebody quits.
///
/// # Errors
/// There is no terminal.
pub(crate) fn run() -> anyhow::Result<()> {
    let signals = screen::hold_signals()?;
    let mut screen = Screen::open()?;
    let (tell, happens) = channel();
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());

    let told = tell.clone();
    thread("tui-signals").spawn(move || {
        if signals.wait().is_ok() {
            // Who hears it may be gone already.
            let _ = told.send(Happening::End);
        }
    })?;
    let told = tell.clone();
    thread("tui-keys").spawn(move || {
        loop {
            let happening = event::read().map_or(Happening::End, Happening::Terminal);
            let is_last = matches!(happening, Happening::End);
            if told.send(happening).is_err() || is_last {
                return;
            }
        }
    })?;
    let work = Work::start(move |news| {
        // As above.
        let _ = tell.send(Happening::News(news));
    })?;

    let clock = SystemClock::shared();
    let colours = terminal::style::enabled(terminal::style::Stream::Stdout);
    let height = screen.terminal().size()?.height;
    let mut state = State::new(colours, height, clock.unix_ms());
    loop {
        state.now = clock.unix_ms();
        screen.terminal().draw(|frame| draw::draw(frame, &state))?;
        let mut next = match happens.recv_timeout(TICK) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        state.now = clock.unix_ms();
        // All that has happened meanwhile is one picture.
        while let Some(happening) = next {
            match take(&mut state, happening) {
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Look) => work.look(),
                Some(Wish::Order(order)) => work.carry_out(order),
                None => {}
            }
            next = happens.try_recv().ok();
        }
    }
}

fn take(state: &mut State, happening: Happening) -> Option<Wish> {
    match happening {
        Happening::End => Some(Wish::Quit),
        Happening::News(news) => state.news(news),
        Happening::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => state.key(key),
        Happening::Terminal(Event::Paste(text)) => {
            state.paste(&text);
            None
        }
        Happening::Terminal(Event::Resize(_, height)) => {
            state.height = height;
            None
        }
        Happening::Terminal(_) => None,
    }
}
