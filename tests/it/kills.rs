//! `kill -9` of `collect` at random bytes of a drain and at random commands that settle, the server rendering every fetch anew: nothing lost,
//! nothing twice, by the serial inside each body, and everything settled in the end. `MAILBOX_COLLECTOR_KILLS` sets how many kills each action
//! gets (10 and 5 where it is not set), `MAILBOX_COLLECTOR_KILLS_SEED` repeats a run.

use std::sync::{Arc, Mutex};

use simulator::{Action, Message, Trigger};

use crate::scene::{Running, Scene, address, collector, secret};

/// Bytes that one message takes to fetch, about.
const BYTES_EACH: u64 = 4_250;
const ARCHIVE: &str = "Factures/Traité";

/// What becomes of delivered mail, the commands that do it, and how many messages and kills a run has.
struct Row {
    pop3: bool,
    spec: &'static str,
    commands: &'static [&'static str],
    messages: u64,
    kills: u64,
}

const KEEP: Row = Row { pop3: false, spec: "", commands: &[], messages: 2_000, kills: 10 };
const MOVE: Row = Row {
    pop3: false,
    spec: "afterDelivery: {action: Move, folder: Factures/Traité}",
    commands: &["SELECT", "CAPABILITY", "MOVE"],
    messages: 1_200,
    kills: 5,
};
const DELETE: Row = Row {
    pop3: false,
    spec: "afterDelivery: {action: Delete}",
    commands: &["SELECT", "CAPABILITY", "STORE", "EXPUNGE"],
    messages: 1_200,
    kills: 5,
};
const SEEN: Row = Row { pop3: false, spec: "afterDelivery: {action: MarkSeen}", commands: &["SELECT", "STORE"], messages: 1_200, kills: 5 };

const POP3_KEEP: Row = Row { pop3: true, spec: "protocol: POP3", commands: &[], messages: 1_200, kills: 5 };
const POP3_DELETE: Row =
    Row { pop3: true, spec: "protocol: POP3\nafterDelivery: {action: Delete}", commands: &["DELE", "QUIT"], messages: 1_200, kills: 5 };

#[test]
fn kills_at_random_bytes_of_a_drain_lose_nothing_and_double_nothing() {
    kill(&KEEP);
}

#[test]
fn kills_while_mail_is_moved_lose_nothing_and_double_nothing_and_all_is_moved() {
    kill(&MOVE);
}

#[test]
fn kills_while_mail_is_deleted_lose_nothing_and_double_nothing_and_all_is_deleted() {
    kill(&DELETE);
}

#[test]
fn kills_while_mail_is_marked_lose_nothing_and_double_nothing_and_all_is_marked() {
    kill(&SEEN);
}

#[test]
fn kills_at_random_bytes_of_a_drain_by_pop3_lose_nothing_and_double_nothing() {
    kill(&POP3_KEEP);
}

#[test]
fn kills_while_mail_is_deleted_by_pop3_lose_nothing_and_double_nothing_and_all_is_deleted() {
    kill(&POP3_DELETE);
}

fn kill(row: &Row) {
    let wanted = number("MAILBOX_COLLECTOR_KILLS").unwrap_or(row.kills);
    let seed = number("MAILBOX_COLLECTOR_KILLS_SEED").unwrap_or_else(|| u64::from_str_radix(&xtask::random_hex(7).unwrap(), 16).unwrap());
    let mut random = Random(seed);
    let (mut kills, mut settling, mut drains) = (0, 0, 0);
    while kills < wanted {
        let (all, of_these) = drain_with_kills(row, drains, wanted - kills, &mut random, seed);
        kills += all;
        settling += of_these;
        drains += 1;
    }
    let what = if row.spec.is_empty() { "afterDelivery: {action: Keep}" } else { row.spec };
    println!(
        "{what}: {kills} kills, {settling} of them while settling, in {drains} drains of {} messages: 0 lost, 0 duplicates (seed {seed})",
        row.messages
    );
}

/// One mailbox from empty folders to done, killed at most `most` times; gives how often it was, and how often of these while settling.
fn drain_with_kills(row: &Row, turn: u64, most: u64, random: &mut Random, seed: u64) -> (u64, u64) {
    let scene = Scene::new(&["factures"]);
    scene.write("mail.yaml", &format!("{}---\n{}", secret(simulator::CLIENT_SECRET), collector("factures", row.spec)));
    if row.pop3 {
        scene.simulator.world().permit_pop3();
        scene.simulator.world().exchange.pop3_pipelining = !turn.is_multiple_of(3);
        if turn % 2 == 1 {
            let name = |uid| (uid, format!("{uid:08x}5f3c1234"));
            scene.mailbox("factures", |mailbox| mailbox.unique_ids = (1..=row.messages as u32).map(name).collect());
        }
    }
    for serial in 1..=row.messages {
        // Most short, some too long for memory.
        scene.put("factures", Message::sized(serial, if serial % 400 == 0 { 300_000 } else { 2_000 + (serial % 7 * 500) as usize }));
    }
    scene.mailbox("factures", |mailbox| drop(mailbox.folder(ARCHIVE).uids()));
    let (mut kills, mut settling) = (0, 0);
    loop {
        let child = Arc::new(Mutex::new(Running::start(scene.command().arg("--once"))));
        let victim = Arc::clone(&child);
        let at_command = !row.commands.is_empty() && random.below(2) == 0;
        if kills < most && at_command {
            let name = row.commands[random.below(row.commands.len() as u64) as usize];
            let kill = Action::run(move |_| victim.lock().unwrap().0.kill().unwrap());
            let trigger = Trigger::Command { name, nth: 1 + random.below(3) as u32 };
            scene.simulator.world().mailbox(&address("factures")).unwrap().faults.once(trigger, kill);
        } else if kills < most {
            let bytes = 1 + random.below(row.messages * BYTES_EACH);
            scene.simulator.on_bytes(bytes, move || victim.lock().unwrap().0.kill().unwrap());
        }
        let status = loop {
            if let Some(status) = child.lock().unwrap().0.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        scene.mailbox("factures", |mailbox| mailbox.faults.clear());
        match status.code() {
            None => {
                kills += 1;
                settling += u64::from(at_command);
            }
            Some(0) => break,
            Some(code) => panic!("exit code {code} after {kills} kills (seed {seed})"),
        }
    }
    if row.pop3 {
        // What a session settles takes effect at its end; the next one sees it.
        scene.collect().must_be_ok();
    }
    let serials = scene.serials("factures");
    let expected: Vec<u64> = (1..=row.messages).collect();
    let lost: Vec<_> = expected.iter().filter(|serial| serials.binary_search(serial).is_err()).collect();
    let twice: Vec<_> = serials.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(serials == expected, "lost {lost:?}, twice {twice:?} after {kills} kills (seed {seed})");
    assert!(scene.cursor("factures")["unsettled"].is_null(), "left unsettled: {} (seed {seed})", scene.cursor("factures")["unsettled"]);
    scene.mailbox("factures", |mailbox| {
        let (inbox, archive) = (mailbox.folder("INBOX").uids().len() as u64, mailbox.folder(ARCHIVE).uids().len() as u64);
        let read = (1..=row.messages as u32).filter(|uid| mailbox.folder("INBOX").is_seen(*uid)).count() as u64;
        let expected = match row.commands.last() {
            None => (row.messages, 0, 0),
            Some(&"MOVE") => (0, row.messages, 0),
            Some(&"EXPUNGE" | &"QUIT") => (0, 0, 0),
            Some(_) => (row.messages, 0, row.messages),
        };
        assert_eq!((inbox, archive, read), expected, "in INBOX, moved, marked as read (seed {seed})");
    });
    (kills, settling)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) % bound
    }
}
