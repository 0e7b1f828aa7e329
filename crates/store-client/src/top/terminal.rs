//! Keys, drawing, and the terminal as it was before.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::picture::{Look, draw};
use super::view::TopView;
use super::watch::StatusAnswer;

/// The picture tells the age of an answer that is late, so it is drawn at least this often.
const REDRAW: Duration = Duration::from_secs(1);
/// Keys that may wait: whoever holds one down does not fill the memory.
const WAITING_KEYS: usize = 64;

/// Gives the person's terminal back when it is dropped.
struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What is on the screen.
struct Screen {
    view: TopView,
    look: Look,
    /// What is shown in place of the present view, and when that was.
    paused: Option<(TopView, Instant)>,
}

/// Shows the view until the person ends it.
pub async fn run(view: TopView, mut answers: mpsc::Receiver<StatusAnswer>) -> anyhow::Result<()> {
    let _guard = TerminalGuard;
    // It also gives the terminal back if the program panics.
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let mut events = read_events()?;
    let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen { view, look: Look { has_colours, ..Look::default() }, paused: None };
    loop {
        terminal.draw(|frame| screen.draw(frame, Instant::now())).context("cannot draw")?;
        tokio::select! {
            answer = answers.recv() => {
                let answer = answer.ok_or_else(|| anyhow!("nobody asks the headnode any more"))?;
                screen.view.note(Instant::now(), answer);
            }
            event = events.recv() => {
                let event = event.ok_or_else(|| anyhow!("the terminal gives no more keys"))?;
                if screen.react(&event).is_break() {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
}

/// Reads the terminal's events on a thread, which ends with the program.
fn read_events() -> anyhow::Result<mpsc::Receiver<Event>> {
    let (events, read) = mpsc::channel(WAITING_KEYS);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read()
            && events.blocking_send(event).is_ok()
        {}
    })?;
    Ok(read)
}

impl Screen {
    fn draw(&self, frame: &mut ratatui::Frame, now: Instant) {
        let (view, now) = self.paused.as_ref().map_or((&self.view, now), |(view, at)| (view, *at));
        draw(frame, view, now, self.look);
    }

    /// Does what the person asks for; a change of size needs nothing but the next drawing.
    fn react(&mut self, event: &Event) -> ControlFlow<()> {
        let Event::Key(key) = event else { return ControlFlow::Continue(()) };
        if key.kind == KeyEventKind::Release {
            return ControlFlow::Continue(());
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => ControlFlow::Break(()),
            KeyCode::Char('q') | KeyCode::Esc => ControlFlow::Break(()),
            KeyCode::Char('?') => {
                self.look.has_help = !self.look.has_help;
                ControlFlow::Continue(())
            }
            KeyCode::Char('p') => {
                self.paused = match self.paused.take() {
                    None => Some((self.view.clone(), Instant::now())),
                    Some(_) => None,
                };
                self.look.is_paused = self.paused.is_some();
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
