//! The datanodes as rows of a table, and which columns and rows fit.

use std::cmp::Reverse;

use protocol::store::client_api::{NodeState, NodeStatus};
use unicode_width::UnicodeWidthStr as _;

use super::view::TopView;
use crate::show::{HEADINGS, node_cells};
use crate::table::{GAP, cut};

/// What `status` knows, and the share.
const COLUMNS: usize = HEADINGS.len() + 1;

/// The columns in the order in which they are given up last.
const BY_USE: [usize; COLUMNS] =
    [NAME, STATE, RECORDS, SHARE, ADDRESS, ROUND_TRIP, LOST, FREE, LAST_ANSWER, CAUSE];
const NAME: usize = 0;
const STATE: usize = 1;
const ADDRESS: usize = 2;
const RECORDS: usize = 3;
const LOST: usize = 4;
const FREE: usize = 5;
const LAST_ANSWER: usize = 6;
const ROUND_TRIP: usize = 7;
const CAUSE: usize = 8;
const SHARE: usize = 9;

/// A row of a table.
pub type Cells = [String; COLUMNS];

/// Returns the headings of the columns.
pub fn headings() -> Cells {
    let mut headings = std::array::from_fn(|column| HEADINGS.get(column).copied().unwrap_or_default().into());
    headings[SHARE] = "reparto".to_owned();
    headings
}

/// Returns the datanodes with their rows, in the order of the answer.
pub fn datanodes(view: &TopView) -> Vec<(&NodeStatus, Cells)> {
    let shares = view.shares().unwrap_or_default();
    let nodes = view.newest.iter().flat_map(|(_, status)| &status.datanodes);
    let row = |node| (node, cells(node, shares.get(&node.name).copied()));
    nodes.map(row).collect()
}

fn cells(node: &NodeStatus, share: Option<f64>) -> Cells {
    let mut known = node_cells(node);
    let mut cells: Cells =
        std::array::from_fn(|column| known.get_mut(column).map(std::mem::take).unwrap_or_default());
    cells[STATE] = format!("{} {}", symbol(shown_state(node)), cells[STATE]);
    cells[SHARE] = share.map_or("-".to_owned(), percent);
    cells
}

/// Returns the state whose shape and colour a datanode has. One that is drained gets no messages, like one that is not connected.
pub fn shown_state(node: &NodeStatus) -> NodeState {
    match node.state {
        NodeState::Available if !node.gets_messages() => NodeState::Operative,
        state => state,
    }
}

/// Returns the shape of a state, for whoever sees no colours.
pub fn symbol(state: NodeState) -> &'static str {
    match state {
        NodeState::Available => "●",
        NodeState::Operative => "◐",
        NodeState::NotOperative => "○",
    }
}

/// Returns a share as people read it.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Puts the datanodes that need attention first.
pub fn worst_first(rows: &mut [(&NodeStatus, Cells)]) {
    rows.sort_by_key(|(node, _)| {
        let state = match shown_state(node) {
            NodeState::NotOperative => 0,
            NodeState::Operative => 1,
            NodeState::Available => 2,
        };
        (state, Reverse(node.lost), Reverse(node.round_trip_us))
    });
}

/// Columns of a table that fit into a width.
#[derive(Debug)]
pub struct FittingColumns {
    /// The columns from left to right, each with its width.
    pub columns: Vec<(usize, usize)>,
    /// Spaces between two columns.
    pub gap: usize,
}

impl FittingColumns {
    /// Returns the most useful columns of these rows that fit into `width`. The columns of lost records and of causes come
    /// early if there are any; without any cause, their column is left out.
    pub fn choose(rows: &[(&NodeStatus, Cells)], width: usize) -> Self {
        let gap = if width < 60 { 1 } else { GAP };
        let headings = headings();
        let needed = |column: usize| {
            let cells = rows.iter().map(|(_, cells)| cells[column].width());
            cells.chain([headings[column].width()]).max().unwrap_or(0)
        };
        let mut by_use = BY_USE.to_vec();
        let has_lost = rows.iter().any(|(node, _)| node.lost > 0);
        let has_causes = rows.iter().any(|(node, _)| node.cause.is_some());
        for (column, is_early) in [(CAUSE, has_causes), (LOST, has_lost)] {
            if is_early {
                by_use.retain(|other| *other != column);
                by_use.insert(2, column);
            }
        }
        by_use.retain(|column| *column != CAUSE || has_causes);
        let (mut columns, mut left) = (Vec::new(), width + gap);
        for column in by_use {
            let needed = if column == NAME { needed(NAME).min((width / 3).max(9)) } else { needed(column) };
            if needed + gap <= left {
                left -= needed + gap;
                columns.push((column, needed));
            }
        }
        columns.sort_unstable();
        Self { columns, gap }
    }

    /// Returns those of the cells that are shown.
    pub fn pick(&self, cells: &Cells) -> Vec<String> {
        self.columns.iter().map(|(column, width)| cut(&cells[*column], *width)).collect()
    }
}
