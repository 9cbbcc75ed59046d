//! `kill -9` of `collect` at random bytes of a drain, the server rendering every fetch anew: nothing lost, nothing twice, by the serial inside each
//! body. `MAILBOX_COLLECTOR_KILLS` sets how many kills (10 where it is not set), `MAILBOX_COLLECTOR_KILLS_SEED` repeats a run.

use std::sync::{Arc, Mutex};

use simulator::Message;

use crate::scene::{Running, Scene};

const MESSAGES: u64 = 2_000;
/// What a drain of them fetches, about.
const BYTES: u64 = 8_500_000;

#[test]
fn kills_at_random_bytes_of_a_drain_lose_nothing_and_double_nothing() {
    kills("IMAP", || Scene::new(&["factures"]));
}

#[test]
fn kills_at_random_bytes_of_a_drain_by_pop3_lose_nothing_and_double_nothing() {
    let mut turn = 0;
    kills("POP3", || {
        turn += 1;
        let action = if turn % 2 == 0 { "Keep" } else { "Delete" };
        let scene = Scene::with(&["factures"], &format!("protocol: POP3\nafterDelivery: {{action: {action}}}"));
        scene.simulator.world().permit_pop3();
        scene.simulator.world().exchange.pop3_pipelining = turn % 3 != 0;
        if turn % 2 == 0 {
            let name = |uid| (uid, format!("{uid:08x}5f3c1234"));
            scene.mailbox("factures", |mailbox| mailbox.unique_ids = (1..=MESSAGES as u32).map(name).collect());
        }
        scene
    });
}

fn kills(protocol: &str, mut scene: impl FnMut() -> Scene) {
    let wanted = number("MAILBOX_COLLECTOR_KILLS").unwrap_or(10);
    let seed = number("MAILBOX_COLLECTOR_KILLS_SEED").unwrap_or_else(|| u64::from_str_radix(&xtask::random_hex(7).unwrap(), 16).unwrap());
    let mut random = Random(seed);
    let (mut kills, mut drains) = (0, 0);
    while kills < wanted {
        kills += drain_with_kills(&scene(), wanted - kills, &mut random, seed);
        drains += 1;
    }
    println!("{protocol}: {kills} kills in {drains} drains of {MESSAGES} messages: 0 lost, 0 duplicates (seed {seed})");
}

/// One mailbox from empty folders to done, killed at most `most` times; gives how often it was.
fn drain_with_kills(scene: &Scene, most: u64, random: &mut Random, seed: u64) -> u64 {
    for serial in 1..=MESSAGES {
        // Most short, some too long for memory.
        scene.put("factures", Message::sized(serial, if serial % 400 == 0 { 300_000 } else { 2_000 + (serial % 7 * 500) as usize }));
    }
    let mut kills = 0;
    loop {
        let child = Arc::new(Mutex::new(Running::start(scene.command().arg("--once"))));
        if kills < most {
            let victim = Arc::clone(&child);
            scene.simulator.on_bytes(1 + random.below(BYTES), move || victim.lock().unwrap().0.kill().unwrap());
        }
        let status = loop {
            if let Some(status) = child.lock().unwrap().0.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        match status.code() {
            None => kills += 1,
            Some(0) => break,
            Some(code) => panic!("exit code {code} after {kills} kills (seed {seed})"),
        }
    }
    let serials = scene.serials("factures");
    let expected: Vec<u64> = (1..=MESSAGES).collect();
    let lost: Vec<_> = expected.iter().filter(|serial| serials.binary_search(serial).is_err()).collect();
    let twice: Vec<_> = serials.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(serials == expected, "lost {lost:?}, twice {twice:?} after {kills} kills (seed {seed})");
    kills
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
