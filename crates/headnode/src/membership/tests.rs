use super::*;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const INTERVAL: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn membership(expected: usize) -> Membership {
    let config = MembershipConfig { interval: INTERVAL, attempts: DEFAULT_ATTEMPTS, expected };
    Membership::new(config, Duration::ZERO)
}

fn address(number: u64) -> SocketAddr {
    format!("10.0.0.{number}:5001").parse().unwrap()
}

fn answer(membership: &Membership, number: u64, incarnation: u64) -> ProbeAnswer {
    ProbeAnswer {
        round: membership.round,
        token: membership.token,
        attempt: u32::try_from(membership.sent.len()).unwrap(),
        name: name(number),
        incarnation: Incarnation::from_parts(incarnation, 0),
        address: address(number),
        records: 0,
        free_bytes: 0,
        unreadable: 0,
        sync: None,
        leader: None,
    }
}

fn name(number: u64) -> NodeName {
    format!("datanode{number}").parse().unwrap()
}

/// Returns the answer of datanode `number` to a probe, from its own address.
fn answers(membership: &mut Membership, now: Duration, number: u64) -> Vec<MembershipAction> {
    let answer = answer(membership, number, 1);
    membership.answered(now, address(number), &answer).unwrap()
}

fn probes(actions: &[MembershipAction]) -> Vec<Option<SocketAddr>> {
    let probe = |action: &MembershipAction| match action {
        MembershipAction::ProbeAll(_) => Some(None),
        MembershipAction::ProbeOne(to, _) => Some(Some(*to)),
        _ => None,
    };
    actions.iter().filter_map(probe).collect()
}

fn report(actions: &[MembershipAction]) -> Option<RoundReport> {
    actions.iter().find_map(|action| {
        if let MembershipAction::Report(round) = action { Some(round.clone()) } else { None }
    })
}

/// Advances the time to `end`, and returns the actions with their times.
fn pass(membership: &mut Membership, end: Duration) -> Vec<(Duration, MembershipAction)> {
    let mut all = Vec::new();
    while membership.next_tick() <= end {
        let now = membership.next_tick();
        all.extend(membership.tick(now, 81).into_iter().map(|action| (now, action)));
    }
    all
}

#[test]
fn a_round_ends_as_soon_as_all_have_answered() {
    let mut membership = membership(2);
    assert_eq!(probes(&membership.tick(at(0.0), 81)), [None]);
    assert_eq!(report(&answers(&mut membership, at(0.001), 1)), None);
    let round = report(&answers(&mut membership, at(0.002), 2)).unwrap();
    assert_eq!((round.number, round.answered, round.expected), (1, 2, 2));
    assert_eq!(round.nodes[0].round_trip, Some(at(0.001)));
    assert!(round.nodes.iter().all(|node| node.changed));
    assert_eq!(membership.next_tick(), INTERVAL, "nothing more in this round");
}

#[test]
fn a_silent_datanode_is_probed_again_and_then_not_operative() {
    let mut membership = membership(2);
    membership.tick(at(0.0), 81);
    answers(&mut membership, at(0.0), 1);
    answers(&mut membership, at(0.0), 2);
    membership.tick(at(5.0), 82);
    answers(&mut membership, at(5.0), 1);
    assert_eq!(probes(&membership.tick(at(6.0), 0)), [Some(address(2))], "alone, since all are known");
    assert_eq!(probes(&membership.tick(at(7.0), 0)), [Some(address(2))]);
    let end = membership.tick(at(8.0), 0);
    assert!(end.contains(&MembershipAction::Disconnect(name(2))));
    let round = report(&end).unwrap();
    let told: Vec<_> = round.nodes.iter().map(|node| (node.round_trip.is_some(), node.changed)).collect();
    assert_eq!(told, [(true, false), (false, true)]);
    // The datanode comes back without any help.
    membership.tick(at(10.0), 83);
    let back = answers(&mut membership, at(10.0), 2);
    assert_eq!(back, [MembershipAction::Connect(name(2), Incarnation::from_parts(1, 0), address(2))]);
    let round = report(&answers(&mut membership, at(10.0), 1)).unwrap();
    assert_eq!(round.nodes.iter().map(|node| node.changed).collect::<Vec<_>>(), [false, true]);
}

/// Returns a membership of one datanode that is connected, in its second round, which nobody has answered.
fn connected_and_silent() -> Membership {
    let mut membership = membership(1);
    membership.tick(at(0.0), 81);
    answers(&mut membership, at(0.0), 1);
    membership.mark_connected(&name(1), Incarnation::from_parts(1, 0), 0, 0);
    assert_eq!(membership.tick(at(5.0), 82).len(), 1, "no ping as long as there may be an answer");
    membership
}

#[test]
fn a_datanode_that_only_replies_on_its_link_is_operative() {
    let mut membership = connected_and_silent();
    assert_eq!((membership.silent(), membership.round_begun()), (vec![name(1)], at(5.0)));
    let again = membership.tick(at(6.0), 0);
    assert!(again.contains(&MembershipAction::Ping(name(1))), "{again:?}");
    membership.note_reply(&name(1), Incarnation::from_parts(1, 0));
    membership.tick(at(7.0), 0);
    let end = membership.tick(at(8.0), 0);
    assert!(!end.contains(&MembershipAction::Disconnect(name(1))), "{end:?}");
    let round = report(&end).unwrap();
    assert_eq!((round.answered, round.operative, round.silent), (0, 1, 1));
    assert_eq!(round.nodes[0].round_trip, None);
    assert!(round.nodes[0].is_operative && !round.nodes[0].changed);
    assert_eq!(membership.nodes().next().unwrap().1.state(), NodeState::Available);
    // A reply counts for its round alone.
    let round =
        pass(&mut membership, at(13.0)).into_iter().find_map(|(_, action)| report(&[action])).unwrap();
    assert_eq!((round.operative, round.nodes[0].changed), (0, true));
}

#[test]
fn a_link_that_has_broken_and_another_run_count_for_nothing() {
    for breaks in [true, false] {
        let mut membership = connected_and_silent();
        membership.tick(at(6.0), 0);
        membership.note_reply(&name(1), Incarnation::from_parts(if breaks { 1 } else { 2 }, 0));
        if breaks {
            membership.mark_disconnected(&name(1), Incarnation::from_parts(1, 0), UnavailableCause::Closed);
        }
        membership.tick(at(7.0), 0);
        assert_eq!(report(&membership.tick(at(8.0), 0)).unwrap().operative, 0);
    }
}

#[test]
fn an_answer_to_the_second_probe_is_no_failure() {
    let mut membership = membership(1);
    membership.tick(at(0.0), 81);
    let probe = membership.tick(at(1.0), 0);
    assert_eq!(probes(&probe), [None], "nobody is known: all are asked");
    let round = report(&answers(&mut membership, at(1.25), 1)).unwrap();
    assert_eq!(round.nodes[0].round_trip, Some(at(0.25)), "counted from the second probe");
}

#[test]
fn missing_datanodes_are_counted_and_rounds_without_any_answer_too() {
    let mut membership = membership(3);
    let actions = pass(&mut membership, at(14.0));
    let rounds: Vec<_> =
        actions.iter().filter_map(|(_, action)| report(std::slice::from_ref(action))).collect();
    let silent: Vec<_> = rounds.iter().map(|round| (round.answered, round.silent)).collect();
    assert_eq!(silent, [(0, 1), (0, 2), (0, 3)]);
}

#[test]
fn a_datanode_of_an_earlier_run_is_in_every_round_until_it_answers() {
    let mut membership = membership(1);
    assert!(membership.remember(&name(2)) && !membership.remember(&name(2)));
    membership.forget(&[name(3)]);
    assert!(!membership.remember(&name(3)), "it is gone for ever");
    membership.tick(at(0.0), 81);
    assert_eq!(report(&answers(&mut membership, at(0.0), 1)), None, "it gets the first window");
    let round = report(&membership.tick(at(1.0), 0)).unwrap();
    let told: Vec<_> = round.nodes.iter().map(|node| (node.address.is_some(), node.changed)).collect();
    assert_eq!((told, round.answered), (vec![(true, true), (false, true)], 1));
    membership.tick(at(5.0), 82);
    answers(&mut membership, at(5.0), 1);
    let round = report(&answers(&mut membership, at(5.0), 2)).unwrap();
    assert_eq!((round.answered, membership.absent().count()), (2, 0), "the round ends at once");
    assert_eq!(membership.names(), [name(2), name(1)]);
}

#[test]
fn answers_to_another_round_are_nothing() {
    let mut membership = membership(1);
    membership.tick(at(0.0), 81);
    let old = answer(&membership, 1, 1);
    pass(&mut membership, at(5.0));
    let forged = ProbeAnswer { token: 82, ..answer(&membership, 1, 1) };
    let future = ProbeAnswer { attempt: 9, ..answer(&membership, 1, 1) };
    for wrong in [old, forged, future] {
        assert_eq!(membership.answered(at(5.1), address(1), &wrong), Err(Stale));
    }
    assert_eq!(membership.nodes().count(), 0);
}

#[test]
fn to_a_datanode_whose_connection_broke_nothing_is_sent() {
    let mut membership = membership(1);
    membership.tick(at(0.0), 81);
    answers(&mut membership, at(0.0), 1);
    let run = Incarnation::from_parts(1, 0);
    let state = |membership: &Membership| membership.nodes[&name(1)].state();
    assert_eq!(state(&membership), NodeState::Operative, "not connected yet");
    membership.mark_connected(&name(1), run, 0, 0);
    assert_eq!(state(&membership), NodeState::Available);
    membership.mark_disconnected(&name(1), Incarnation::from_parts(9, 0), UnavailableCause::Closed);
    assert_eq!(state(&membership), NodeState::Available, "that was another run of it");
    membership.mark_disconnected(&name(1), run, UnavailableCause::Closed);
    assert_eq!(state(&membership), NodeState::Operative);
    membership.tick(at(5.0), 82);
    answers(&mut membership, at(5.0), 1);
    assert_eq!(state(&membership), NodeState::Operative, "answers alone do not mend a connection");
    membership.mark_connected(&name(1), run, 0, 0);
    assert_eq!(state(&membership), NodeState::Available);
}

#[test]
fn of_two_datanodes_with_one_name_the_second_is_refused_until_the_first_is_gone() {
    let mut membership = membership(1);
    membership.tick(at(0.0), 81);
    answers(&mut membership, at(0.0), 1);
    membership.mark_connected(&name(1), Incarnation::from_parts(1, 0), 0, 0);
    membership.tick(at(5.0), 82);
    let second = answer(&membership, 1, 2);
    let from = address(9);
    let refused = membership.answered(at(5.0), from, &second).unwrap();
    let [MembershipAction::Refuse(to, NameRefused { reason, .. })] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(*to, from);
    assert!(reason.contains("10.0.0.1:5001") && reason.contains("--name"), "{reason}");
    // A restarted datanode is not a second one: the connection of the first one has broken.
    membership.mark_disconnected(&name(1), Incarnation::from_parts(1, 0), UnavailableCause::Closed);
    let accepted = membership.answered(at(5.1), from, &second).unwrap();
    assert_eq!(accepted[0], MembershipAction::Connect(name(1), Incarnation::from_parts(2, 0), address(1)));
}

#[test]
fn a_datanode_that_moved_is_connected_to_anew() {
    let mut membership = membership(1);
    membership.tick(at(0.0), 81);
    answers(&mut membership, at(0.0), 1);
    membership.tick(at(5.0), 82);
    let moved = ProbeAnswer { address: address(7), ..answer(&membership, 1, 1) };
    let actions = membership.answered(at(5.0), address(7), &moved).unwrap();
    assert_eq!(actions[0], MembershipAction::Connect(name(1), Incarnation::from_parts(1, 0), address(7)));
}

#[test]
fn rounds_never_burst_after_a_stall() {
    let mut membership = membership(0);
    membership.tick(at(0.0), 81);
    // The machine is suspended for one hour.
    let late = at(3601.0);
    assert_eq!(probes(&membership.tick(late, 82)).len(), 1);
    let after = pass(&mut membership, late + INTERVAL - at(0.001));
    let rounds = after.iter().filter(|(_, action)| report(std::slice::from_ref(action)).is_some()).count();
    assert!(rounds <= 1, "{after:?}");
    assert_eq!(membership.next_tick(), late + INTERVAL);
    assert_eq!(membership.round(), 2);
}

#[test]
fn rounds_keep_their_pace() {
    let mut membership = membership(3);
    let actions = pass(&mut membership, at(5000.0));
    let mut begun = Vec::new();
    for (when, action) in actions {
        if matches!(action, MembershipAction::ProbeAll(Probe { attempt: 1, .. })) {
            begun.push(when);
        }
    }
    assert_eq!(begun.len(), 1001);
    assert!(begun.iter().enumerate().all(|(i, when)| *when == INTERVAL * u32::try_from(i).unwrap()));
}

#[test]
fn many_datanodes_are_asked_to_spread_their_answers() {
    let mut small = membership(3);
    let mut large = membership(10_000);
    let spread = |membership: &mut Membership| match &membership.tick(at(0.0), 81)[0] {
        MembershipAction::ProbeAll(probe) => Duration::from_millis(probe.spread_ms),
        other => panic!("{other:?}"),
    };
    assert_eq!(spread(&mut small), Duration::ZERO);
    assert_eq!(spread(&mut large), WINDOW / 2, "answers have the other half of the window to arrive");
}

/// Checks the rates in the module's documentation, with datagrams lost at random.
#[test]
fn false_alarms_are_as_rare_as_stated() {
    for (loss, stated, rounds) in
        [(0.2, 0.0467, 40_000), (0.1, 1.0 / 146.0, 100_000), (0.05, 1.0 / 1_100.0, 400_000)]
    {
        let mut rng = StdRng::seed_from_u64(7);
        let mut membership = membership(1);
        membership.tick(at(0.0), 81);
        answers(&mut membership, at(0.0), 1);
        let mut alarms = 0;
        for _ in 0..rounds {
            let mut now = membership.next_tick();
            let mut actions = membership.tick(now, rng.random());
            while report(&actions).is_none() {
                let arrives =
                    !probes(&actions).is_empty() && !rng.random_bool(loss) && !rng.random_bool(loss);
                actions = if arrives {
                    answers(&mut membership, now, 1)
                } else {
                    now = membership.next_tick();
                    membership.tick(now, 0)
                };
            }
            alarms += u32::from(report(&actions).unwrap().answered == 0);
        }
        let rate = f64::from(alarms) / f64::from(rounds);
        assert!(
            (rate / stated - 1.0).abs() < 0.2,
            "loss {loss}: {rate} false alarms a round, stated {stated}"
        );
    }
}

/// Returns the state of each datanode and whether its connection is broken, which together are what events tell.
fn conditions(membership: &Membership) -> BTreeMap<NodeName, (NodeState, bool, Incarnation, SocketAddr)> {
    let of = |node: &Node| (node.state(), node.cause().is_some(), node.incarnation, node.address);
    membership.nodes().map(|(name, node)| (name.clone(), of(node))).collect()
}

/// Returns whether an event tells that a datanode has come into this condition.
fn tells(happening: Happening, (state, is_broken, ..): (NodeState, bool, Incarnation, SocketAddr)) -> bool {
    match happening {
        Happening::Joined(_) | Happening::Back(_) | Happening::Restarted(_) => {
            (state, is_broken) == (NodeState::Operative, false)
        }
        Happening::Connected(_) => state == NodeState::Available,
        Happening::Suspect(cause) => {
            (state, is_broken) == (NodeState::Operative, true) && cause != UnavailableCause::NoAnswer
        }
        Happening::NotOperative(cause) => {
            state == NodeState::NotOperative && cause == UnavailableCause::NoAnswer
        }
        Happening::NameRefused(_) | Happening::DiskFull | Happening::NotHeld(_) => false,
    }
}

#[test]
fn each_change_is_one_event_with_its_cause() {
    let mut changes = 0;
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut membership = membership(3);
        let mut now = Duration::ZERO;
        let mut before = conditions(&membership);
        for _ in 0..300 {
            let (number, run) = (rng.random_range(1..=4), rng.random_range(1..=2));
            let incarnation = Incarnation::from_parts(run, 0);
            match rng.random_range(0..6) {
                0 => {
                    now += Duration::from_millis(rng.random_range(0..1500));
                    membership.tick(now, rng.random());
                }
                1 | 2 if membership.round > 0 => {
                    let answer = answer(&membership, number, run);
                    let _ = membership.answered(now, address(number), &answer);
                }
                3 => membership.mark_connected(&name(number), incarnation, 0, 0),
                4 => membership.mark_disconnected(&name(number), incarnation, UnavailableCause::Closed),
                _ => membership.mark_disconnected(&name(number), incarnation, UnavailableCause::ReplyTimeout),
            }
            let after = conditions(&membership);
            let events = membership.take_events();
            let told = |name: &NodeName| {
                let about = events.iter().filter(|event| &event.datanode == name);
                about
                    .filter(|event| !matches!(event.happening, Happening::NameRefused(_)))
                    .collect::<Vec<_>>()
            };
            for (name, condition) in &after {
                let told = told(name);
                if before.get(name) == Some(condition) {
                    assert_eq!(told, Vec::<&ClusterEvent>::new(), "seed {seed}: nothing has changed");
                } else {
                    changes += 1;
                    assert_eq!(told.len(), 1, "seed {seed}: {name} {condition:?}: {told:?}");
                    assert!(tells(told[0].happening, *condition), "seed {seed}: {condition:?}: {told:?}");
                }
            }
            before = after;
        }
    }
    assert!(changes > 10_000, "only {changes} changes");
}

#[test]
fn what_goes_on_is_told_once() {
    let mut membership = membership(1);
    membership.tick(Duration::ZERO, 81);
    answers(&mut membership, at(0.1), 1);
    let second = answer(&membership, 1, 2);
    membership.take_events();
    for round in 1..4 {
        let again = ProbeAnswer { round: membership.round, token: membership.token, ..second.clone() };
        assert!(membership.answered(at(0.2), address(2), &again).is_ok());
        for _ in 0..3 {
            membership.mark_full(&name(1));
        }
        let expected = [Happening::NameRefused(address(1)), Happening::DiskFull];
        let seen: Vec<_> = membership.take_events().into_iter().map(|event| event.happening).collect();
        assert_eq!(seen, if round == 1 { expected.to_vec() } else { Vec::new() }, "round {round}");
        membership.tick(INTERVAL * round, 81);
        answers(&mut membership, INTERVAL * round, 1);
    }
    membership.tick(INTERVAL * 9, 81);
    membership.tick(INTERVAL * 10, 81);
    answers(&mut membership, INTERVAL * 10, 1);
    membership.take_events();
    membership.mark_full(&name(1));
    let again: Vec<_> = membership.take_events().into_iter().map(|event| event.happening).collect();
    assert_eq!(again, [Happening::DiskFull], "it was well in between");
}
