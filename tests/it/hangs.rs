//! A server that stops answering, at every step of a session, over real sockets and with the real deadlines: so this takes a little more than a
//! minute, all rows at the same time. Also what takes as long: a server that throttles again and again, an IDLE without pushes.
//! (The same deadlines on a paused clock, byte for byte, are in the tests of `source::imap`.)

use std::time::{Duration, Instant};

use simulator::{Action, IdleFault, Message, Trigger};

use crate::scene::{Running, Scene, all_at_once, collector, secret, wait_for_files};

const MANY: Duration = Duration::from_secs(120);

/// Where it hangs, and how many seconds later the session is given up, at the earliest.
const STEPS: [(&str, u64); 9] = [
    ("CONNECT", 15),
    ("GREETING", 60),
    ("AUTHENTICATE", 60),
    ("LIST", 60),
    ("EXAMINE", 60),
    ("SEARCH", 60),
    ("FETCH", 60),
    ("short body", 60),
    ("long body", 60),
];

#[test]
fn a_server_that_hangs_at_any_step_is_left_and_everything_comes_by_the_next_session() {
    all_at_once(&STEPS, |&(step, seconds)| {
        let scene = Scene::new(&["factures"]);
        scene.deliver("factures", 1..=4);
        scene.put("factures", Message::sized(5, 2_000_000));
        let nth = 1;
        match step {
            // Before a mailbox is known.
            "CONNECT" | "GREETING" => scene.simulator.world().exchange.faults.once(Trigger::Command { name: step, nth }, Action::Stall),
            // Fault 16: in mid-literal.
            "long body" => scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::AfterBytes(1_000_000), Action::Stall)),
            "short body" => {
                let stalls = Action::run(|world| {
                    let mailbox = world.mailbox("factures@contoso.example").unwrap();
                    mailbox.faults.once(Trigger::AfterBytes(1_500), Action::Stall);
                });
                scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::Command { name: "FETCH", nth }, stalls));
            }
            command => scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::Command { name: command, nth }, Action::Stall)),
        }
        let began = Instant::now();
        let said = scene.collect();
        let took = began.elapsed().as_secs();
        said.must_be_ok();
        assert!(took >= seconds && took < seconds + 40, "{step}: {took} s");
        assert_eq!((said.counts("factures"), scene.serials("factures")), ((5, 0, 0), vec![1, 2, 3, 4, 5]), "{step}");
        let troubles = said.troubles("factures");
        let told = "reason=\"ConnectionFailed\"";
        assert!(troubles.len() == 1 && troubles[0].contains(told) && troubles[0].contains("did not answer"), "{step}: {troubles:?}");
        assert!(
            scene.simulator.world().exchange.faults.is_empty() && scene.mailbox("factures", |mailbox| mailbox.faults.is_empty()),
            "{step}"
        );
    });
}

#[test]
fn an_idle_that_hangs_or_stays_silent_only_delays_new_mail() {
    // No `+`; no answer to DONE; fault 31, no push whatever arrives: then the mail comes with the look that each interval brings.
    let rows = [
        ("no-plus", Action::Stall, 100),
        ("done-unanswered", Action::Idle(IdleFault::DoneUnanswered), 60),
        ("31-silent", Action::Idle(IdleFault::Silent), 100),
    ];
    all_at_once(&rows, |(name, action, limit)| {
        let scene = Scene::new(&[name]);
        scene.write("mail.yaml", &format!("{}---\n{}", secret(simulator::CLIENT_SECRET), collector(name, "interval: 1m")));
        scene.deliver(name, [1]);
        scene.mailbox(name, |mailbox| mailbox.faults.once(Trigger::Command { name: "IDLE", nth: 1 }, action.clone()));
        let _running = Running::start(&mut scene.command());
        wait_for_files(&scene, name, 1, MANY);
        crate::support::wait_for("IDLE", MANY, || scene.mailbox(name, |mailbox| mailbox.faults.is_empty()).then_some(()));
        scene.deliver(name, [2]);
        wait_for_files(&scene, name, 2, Duration::from_secs(*limit));
        assert_eq!(scene.serials(name), [1, 2], "{name}");
    });
}

#[test]
fn fault_27_throttled_by_no_then_bad_then_bye_waits_and_says_throttled() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    scene.mailbox("factures", |mailbox| {
        let throttled = |bad, bye| Action::Throttle { milliseconds: 3_000, bad, bye };
        for (nth, action) in [(1, throttled(false, false)), (2, throttled(true, false)), (3, throttled(true, true))] {
            mailbox.faults.once(Trigger::Command { name: "FETCH", nth }, action);
        }
    });
    let began = Instant::now();
    let said = scene.collect();
    said.must_be_ok();
    // One mailbox, nothing of the messages' fault: none is owed, none comes twice, each pause is at least the server's wish.
    assert_eq!((said.counts("factures"), scene.serials("factures")), ((3, 0, 0), vec![1, 2, 3]));
    let troubles = said.troubles("factures");
    assert!(troubles.len() == 3 && troubles.iter().all(|trouble| trouble.contains("reason=\"Throttled\"")), "{troubles:?}");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
}
