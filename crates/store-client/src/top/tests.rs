//! Golden screens: the picture is a function of the answers, the size and the time.

use std::time::{Duration, Instant};

use protocol::store::client_api::{NodeState, NodeStatus, StoreStatus};
use protocol::store::types::UnavailableCause;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::lines;
use super::picture::{Look, draw};
use super::view::TopView;

use NodeState::{Available, NotOperative, Operative};

const HEADNODE: &str = "127.0.0.1:5000";

fn node(number: usize, state: NodeState, records: u64) -> NodeStatus {
    NodeStatus {
        name: format!("datanode{number}").parse().unwrap(),
        state,
        address: Some(format!("172.20.0.{}:5001", number + 2).parse().unwrap()),
        records,
        lost: 0,
        free_bytes: 3 << 29,
        last_answer: Some("2026-11-21T09:30:00.123Z".to_owned()),
        round_trip_us: 412 * number as u64,
        cause: match state {
            Available => None,
            Operative => Some(UnavailableCause::Closed),
            NotOperative => Some(UnavailableCause::NoAnswer),
        },
        draining: false,
    }
}

fn status(datanodes: Vec<NodeStatus>, messages: u64) -> StoreStatus {
    let count = |state| datanodes.iter().filter(|node| node.state == state).count();
    let available = count(Available);
    let operative = available + count(Operative);
    StoreStatus { datanodes, operative, available, expected: 3, replicas: 1, messages, round: 7, epoch: None }
}

/// Returns a view of answers that came every second, the last one at the time that is returned too.
fn view_of(answers: Vec<StoreStatus>) -> (TopView, Instant) {
    let mut view = TopView::new(HEADNODE, Duration::from_secs(1));
    let mut at = Instant::now();
    for answer in answers {
        at += Duration::from_secs(1);
        view.note(at, Ok(answer));
    }
    (view, at)
}

/// Three datanodes, of which the last one has died; 100 messages came in a second.
fn one_is_down() -> (TopView, Instant) {
    let three = |first, second, messages| {
        let datanodes =
            vec![node(1, Available, first), node(2, Available, second), node(3, NotOperative, 50)];
        status(datanodes, messages)
    };
    view_of(vec![three(100, 200, 350), three(145, 255, 450)])
}

fn screen(width: u16, height: u16, view: &TopView, now: Instant, look: Look) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, now, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    })
    .collect()
}

#[test]
fn a_picture_of_80_by_24() {
    let (view, now) = one_is_down();
    let shown = screen(80, 24, &view, now, Look::default());
    let table = "\
◐ 2 de 3 operativos; se guardan mensajes
450 mensajes, 100.0 mensajes/s, réplicas 1, ronda 7, reparto justo 50 %

datanode   estado          registros  perdidos  causa                  reparto
datanode1  ● disponible    145        0         -                      45 %
datanode2  ● disponible    255        0         -                      55 %
datanode3  ○ no operativo  50         0         no responde al latido  0 %
";
    let foot = "q sale · p pausa · ? ayuda                                        127.0.0.1:5000\n";
    assert_eq!(shown, format!("{table}{}{foot}", "\n".repeat(16)));
}

#[test]
fn a_picture_of_40_by_12() {
    let (view, now) = one_is_down();
    let shown = screen(40, 12, &view, now, Look::default());
    let expected = "\
◐ 2 de 3 operativos; se guardan mensajes
450 mensajes, 100.0 mensajes/s, réplicas
1, ronda 7, reparto justo 50 %

datanode  estado         registros
datanode1 ● disponible   145
datanode2 ● disponible   255
datanode3 ○ no operativo 50



q sale · p pausa · ? ayuda
";
    assert_eq!(shown, expected);
}

#[test]
fn where_not_all_datanodes_fit_the_worst_come_first() {
    let mut datanodes: Vec<_> = (1..=40).map(|number| node(number, Available, 1)).collect();
    datanodes[16].state = NotOperative;
    datanodes[24].state = Operative;
    datanodes[7].lost = 3;
    let (view, now) = view_of(vec![status(datanodes, 40)]);
    let expected = "\
◐ 39 de 40 operativos; se guardan
mensajes
40 mensajes, réplicas 1, ronda 7,
reparto justo 3 %

datanode   estado         perdidos
datanode17 ○ no operativo 0
datanode25 ◐ operativo    0
datanode8  ● disponible   3
datanode40 ● disponible   0
… y 36 más
q sale · p pausa · ? ayuda
";
    assert_eq!(screen(40, 12, &view, now, Look::default()), expected);
    // All of them fit: in the order of their names.
    let tall = screen(160, 60, &view, now, Look::default());
    let names: Vec<_> = tall.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected: Vec<_> = (1..=40).map(|number| format!("datanode{number}")).collect();
    assert_eq!(names[4..44], expected, "{tall}");
    assert!(tall.contains("perdidos  libre     última respuesta          ida y vuelta  reparto"), "{tall}");
}

#[test]
fn a_drained_datanode_has_the_shape_of_those_that_get_no_messages() {
    let drained = NodeStatus { draining: true, ..node(2, Available, 7) };
    let (view, now) = view_of(vec![status(vec![node(1, Available, 7), drained], 14)]);
    let shown = screen(80, 12, &view, now, Look::default());
    assert!(
        shown.contains("datanode1  ● disponible") && shown.contains("datanode2  ◐ se retira "),
        "{shown}"
    );
}

#[test]
fn a_lost_headnode_is_told_and_what_was_last_known_stays() {
    let (mut view, now) = one_is_down();
    view.note(now, Err("no answer from \u{1b}[31m127.0.0.1:5000: the connection broke".to_owned()));
    let expected = "\
○ sin conexión con 127.0.0.1:5000;
reintenta
no answer from \\u001b[31m127.0.0.1:5000…
lo último que se supo, hace 5 s:
450 mensajes, 100.0 mensajes/s, réplicas
1, ronda 7, reparto justo 50 %

datanode  estado         registros
datanode1 ● disponible   145
datanode2 ● disponible   255
datanode3 ○ no operativo 50
q sale · p pausa · ? ayuda
";
    let later = now + Duration::from_secs(5);
    assert_eq!(screen(40, 12, &view, later, Look::default()), expected);

    let (_, back) = view.newest.clone().unwrap();
    view.note(later, Ok(back));
    let shown = screen(40, 12, &view, later, Look::default());
    assert!(shown.starts_with("◐ 2 de 3 operativos; se guardan mensajes\n450 "), "{shown}");
}

#[test]
fn a_headnode_that_is_silent_or_was_never_there_is_told() {
    let (view, now) = one_is_down();
    let silent = screen(80, 24, &view, now + Duration::from_secs(4), Look::default());
    assert!(silent.contains("\nsin respuesta desde hace 4 s\n"), "{silent}");
    let prompt = screen(80, 24, &view, now + Duration::from_secs(2), Look::default());
    assert!(!prompt.contains("sin respuesta"), "{prompt}");

    let mut never = TopView::new(HEADNODE, Duration::from_secs(1));
    let shown = screen(80, 4, &never, now, Look::default());
    assert!(shown.starts_with("○ se conecta a 127.0.0.1:5000\n"), "{shown}");
    never.note(now, Err("Connection refused".to_owned()));
    let shown = screen(80, 4, &never, now, Look::default());
    assert!(
        shown.starts_with("○ sin conexión con 127.0.0.1:5000; reintenta\nConnection refused\n"),
        "{shown}"
    );
}

#[test]
fn pause_and_help_are_shown() {
    let (view, now) = one_is_down();
    let look = Look { is_paused: true, has_help: true, ..Look::default() };
    let expected = "\
◐ 2 de 3 operativos; se guardan mensajes
450 mensajes, 100.0 mensajes/s, réplicas
1, ronda 7, reparto justo 50 %
en pausa: p para seguir

● disponible: responde y recibe mensajes
◐ operativo: responde, pero el headnode
no está conectado a él; o se retira
○ no operativo: no responde
reparto: la parte de los registros del
último minuto que guardó cada datanode;
q sale · p pausa · ? ayuda
";
    assert_eq!(screen(40, 12, &view, now, look), expected);
}

#[test]
fn colours_are_there_unless_nobody_wants_them() {
    let (view, now) = one_is_down();
    let colours = |has_colours| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let look = Look { has_colours, ..Look::default() };
        terminal.draw(|frame| draw(frame, &view, now, look)).unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        [0, 4 * 80, 6 * 80].map(|place: usize| cells[place].fg)
    };
    assert_eq!(colours(true), [Color::Yellow, Color::Green, Color::Red]);
    assert_eq!(colours(false), [Color::Reset; 3]);
}

#[test]
fn every_size_can_be_drawn() {
    let (mut view, now) = one_is_down();
    for look in [Look::default(), Look { is_paused: true, has_help: true, has_colours: true }] {
        for width in [1, 2, 5, 8, 9, 10, 26, 30, 41, 60, 100] {
            for height in 1..14 {
                screen(width, height, &view, now, look);
            }
        }
        view.note(now, Err("trouble".to_owned()));
    }
}

#[test]
fn rates_are_of_the_last_seconds_and_shares_of_the_last_minute() {
    let answer = |seconds: u64| {
        // Ten messages a second to datanode1; from the 70th second on, thirty to datanode2.
        let (first, second) = (10 * seconds.min(70), 30 * seconds.saturating_sub(70));
        status(vec![node(1, Available, first), node(2, Available, second)], first + second)
    };
    let (view, _) = view_of((0..=70).map(answer).collect());
    assert_eq!(view.messages_per_second(), Some(10.0));
    let (view, _) = view_of((0..=90).map(answer).collect());
    assert_eq!(view.messages_per_second(), Some(30.0));
    // 40 s of the last minute were datanode1's, and 20 s datanode2's.
    let shares: Vec<_> = view.shares().unwrap().into_values().collect();
    assert_eq!(shares, [0.4, 0.6]);
    assert_eq!(view.fair_share(), Some(0.5));
}

#[test]
fn rates_are_not_told_before_they_are_known() {
    let (view, _) = view_of(vec![status(vec![node(1, Available, 5)], 5)]);
    assert_eq!((view.messages_per_second(), view.shares()), (None, None));
    // Nothing was stored, and a datanode that is new has no past to compare with.
    let (view, _) = view_of(vec![
        status(vec![node(1, Available, 5)], 5),
        status(vec![node(1, Available, 5), node(2, Available, 70)], 5),
    ]);
    assert_eq!((view.messages_per_second(), view.shares()), (Some(0.0), None));
    // The headnode was started again, with another registry.
    let (view, _) =
        view_of(vec![status(vec![node(1, Available, 500)], 500), status(vec![node(1, Available, 501)], 1)]);
    assert_eq!((view.messages_per_second(), view.shares()), (None, None));
}

#[test]
fn numbers_of_a_hostile_headnode_overflow_nothing() {
    let nodes = |records| vec![node(1, Available, records), node(2, Available, records)];
    let mut hostile = status(nodes(u64::MAX), u64::MAX);
    hostile.available = usize::MAX;
    let (view, now) = view_of(vec![status(nodes(0), 0), hostile]);
    let shown = screen(80, 24, &view, now, Look::default());
    assert!(shown.contains("18446744073709551615 mensajes"), "{shown}");
}

#[test]
fn plain_lines_have_every_column_and_datanode() {
    let (mut view, now) = one_is_down();
    let expected = "\
2 de 3 operativos; se guardan mensajes
450 mensajes, 100.0 mensajes/s, réplicas 1, ronda 7, reparto justo 50 %
datanode   estado          dirección        registros  perdidos  libre     última respuesta          ida y vuelta  causa                  reparto
datanode1  ● disponible    172.20.0.3:5001  145        0         1.50 GiB  2026-11-21T09:30:00.123Z  412.0µs       -                      45 %
datanode2  ● disponible    172.20.0.4:5001  255        0         1.50 GiB  2026-11-21T09:30:00.123Z  824.0µs       -                      55 %
datanode3  ○ no operativo  172.20.0.5:5001  50         0         1.50 GiB  2026-11-21T09:30:00.123Z  1.2ms         no responde al latido  0 %
";
    assert_eq!(lines::of(&view, false).unwrap(), expected);
    view.note(now, Err("why".to_owned()));
    assert_eq!(lines::of(&view, false).unwrap(), "sin conexión con 127.0.0.1:5000; reintenta\nwhy\n");
}
