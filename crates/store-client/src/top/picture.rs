//! The picture on a terminal: a function of the view, the size and the time.

use std::time::Instant;

use protocol::store::client_api::{NodeState, StoreStatus};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};
use unicode_width::UnicodeWidthStr as _;

use super::rows::{FittingColumns, datanodes, headings, shown_state, symbol, worst_first};
use super::view::TopView;
use super::words::{ago, totals, verdict, wrapped};
use crate::table::cut;
use crate::verdict::expected;

/// What of the picture the person chooses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub is_paused: bool,
    pub has_help: bool,
    pub has_colours: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn of_state(self, state: NodeState) -> Style {
        self.colour(match state {
            NodeState::Available => Color::Green,
            NodeState::Operative => Color::Yellow,
            NodeState::NotOperative => Color::Red,
        })
    }
}

/// Draws the view as it is `now`.
pub fn draw(frame: &mut Frame, view: &TopView, now: Instant, look: Look) {
    let width = usize::from(frame.area().width);
    let head = head(view, now, look, width);
    let head_height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(head_height), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(head), top);
    if look.has_help {
        frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), middle);
    } else if view.newest.is_some() {
        draw_datanodes(frame, middle, view, look);
    }
    frame.render_widget(Paragraph::new(foot(view, width)), bottom);
}

/// Returns the lines above the table.
fn head(view: &TopView, now: Instant, look: Look, width: usize) -> Vec<Line<'static>> {
    let state = overall(view);
    let verdict = format!("{} {}", symbol(state), verdict(view));
    let style = look.of_state(state).add_modifier(Modifier::BOLD);
    let mut lines: Vec<_> =
        wrapped(&verdict, width).into_iter().map(|line| Line::styled(line, style)).collect();
    lines.extend(view.trouble.as_ref().map(|trouble| Line::from(cut(trouble, width))));
    if let Some(age) = view.age_if_old(now) {
        let age = ago(age);
        let told = if view.trouble.is_some() {
            format!("lo último que se supo, hace {age}:")
        } else {
            format!("sin respuesta desde hace {age}")
        };
        lines.push(Line::styled(told, look.colour(Color::Yellow)));
    }
    if view.newest.is_some() {
        lines.extend(wrapped(&totals(view), width).into_iter().map(Line::from));
    }
    if look.is_paused {
        lines.push(Line::styled("en pausa: p para seguir", Modifier::REVERSED));
    }
    lines.push(Line::default());
    lines
}

/// Returns the state of a datanode whose symbol and colour also tell how the store is.
fn overall(view: &TopView) -> NodeState {
    match &view.newest {
        Some((_, status)) if view.trouble.is_none() && status.stores_messages() => {
            let StoreStatus { operative, .. } = status;
            if *operative < expected(status) { NodeState::Operative } else { NodeState::Available }
        }
        _ => NodeState::NotOperative,
    }
}

fn draw_datanodes(frame: &mut Frame, area: Rect, view: &TopView, look: Look) {
    let mut rows = datanodes(view);
    // The first line has the headings.
    let room = usize::from(area.height.saturating_sub(1));
    let all = rows.len();
    if all > room {
        worst_first(&mut rows);
        rows.truncate(room.saturating_sub(1));
    }
    let left_out = all - rows.len();
    let fitting = FittingColumns::choose(&rows, usize::from(area.width));
    let mut lines: Vec<_> = rows
        .iter()
        .map(|(node, cells)| {
            let mut style = look.of_state(shown_state(node));
            if view.trouble.is_some() {
                style = style.add_modifier(Modifier::DIM);
            }
            Row::new(fitting.pick(cells)).style(style)
        })
        .collect();
    let widths = fitting.columns.iter().map(|(_, width)| u16::try_from(*width).unwrap_or(u16::MAX));
    let gap = u16::try_from(fitting.gap).unwrap_or(u16::MAX);
    let header = Row::new(fitting.pick(&headings())).style(Modifier::UNDERLINED);
    let [above, below] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(u16::from(left_out > 0))]).areas(area);
    lines.truncate(usize::from(above.height.saturating_sub(1)));
    frame.render_widget(Table::new(lines, widths).column_spacing(gap).header(header), above);
    frame.render_widget(Line::from(format!("… y {left_out} más")), below);
}

/// Returns the last line: the keys, and whom this is about if there is room.
fn foot(view: &TopView, width: usize) -> Line<'static> {
    let keys = "q sale · p pausa · ? ayuda";
    let room = width.saturating_sub(keys.width() + 3);
    let mut foot = vec![Span::from(keys)];
    if view.headnode.width() <= room {
        let space = " ".repeat(width.saturating_sub(keys.width() + view.headnode.width()));
        foot.push(Span::from(space));
        foot.push(Span::from(view.headnode.clone()));
    }
    Line::from(foot)
}

const HELP: &str = "\
● disponible: responde y recibe mensajes
◐ operativo: responde, pero el headnode no está conectado a él; o se retira
○ no operativo: no responde
reparto: la parte de los registros del último minuto que guardó cada datanode; al azar se acerca al reparto justo

q, Esc o Ctrl-C: salir
p: pausa; el almacén sigue
?: esta ayuda";
