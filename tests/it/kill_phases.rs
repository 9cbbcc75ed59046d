//! `kill -9` of `collect` in every phase of its work, the server rendering every fetch anew: nothing lost, nothing twice, by the serial inside each
//! body. `MAILBOX_COLLECTOR_KILLS` sets how many kills (12 where it is not set), `MAILBOX_COLLECTOR_KILLS_SEED` repeats a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use simulator::{Action, Message, Trigger};

use crate::scene::{Running, Scene};
use crate::volatile_disk::Random;

const MESSAGES: u64 = 2_000;
/// What a drain of them fetches, about.
const BYTES: u64 = 8_500_000;

/// What `collect` is at when it is killed, as seen from outside.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The server has got a command before the first FETCH.
    Listing,
    /// The server is in the middle of the answer to a FETCH, at a random byte.
    Fetching,
    /// The server has given a whole set and is asked for the next one: the files of the one before are being written.
    Writing,
    /// The new record lies beside the old one, in whole or in part, and has not taken its place.
    Recording,
}

const PHASES: [Phase; 4] = [Phase::Listing, Phase::Fetching, Phase::Writing, Phase::Recording];

#[test]
fn kills_in_every_phase_of_a_drain_lose_nothing_and_double_nothing() {
    let wanted = number("MAILBOX_COLLECTOR_KILLS").unwrap_or(12);
    let seed = number("MAILBOX_COLLECTOR_KILLS_SEED").unwrap_or_else(|| u64::from_str_radix(&xtask::random_hex(7).unwrap(), 16).unwrap());
    let mut random = Random(seed);
    let (mut kills, mut drains) = ([0; 4], 0);
    while kills.iter().sum::<u64>() < wanted {
        drain_with_kills(wanted, &mut kills, &mut random, seed);
        drains += 1;
    }
    let [listing, fetching, writing, recording] = kills;
    println!(
        "{} kills (listing {listing}, fetching {fetching}, writing {writing}, recording {recording}) in {drains} drains of {MESSAGES} messages: \
         0 lost, 0 duplicates (seed {seed})",
        kills.iter().sum::<u64>()
    );
    if wanted >= 12 {
        assert!(kills.iter().all(|count| *count > 0), "{kills:?}: a phase was never met");
    }
}

/// One mailbox from empty folders to done, killed until there were so many kills in all.
fn drain_with_kills(wanted: u64, kills: &mut [u64; 4], random: &mut Random, seed: u64) {
    let scene = Scene::new(&["factures"]);
    for serial in 1..=MESSAGES {
        // Most short, some too long for memory.
        scene.put("factures", Message::sized(serial, if serial % 400 == 0 { 300_000 } else { 2_000 + (serial % 7 * 500) as usize }));
    }
    loop {
        let all: u64 = kills.iter().sum();
        let index = (0..4).min_by_key(|index| kills[*index]).unwrap();
        let child = Arc::new(Mutex::new(Running::start(scene.command().arg("--once"))));
        let ended = Arc::new(AtomicBool::new(false));
        if all < wanted {
            arm(&scene, PHASES[index], random, &child, &ended);
        }
        let status = loop {
            if let Some(status) = child.lock().unwrap().0.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        ended.store(true, Ordering::Relaxed);
        scene.mailbox("factures", |mailbox| mailbox.faults.clear());
        match status.code() {
            None => kills[index] += 1,
            Some(0) => break,
            Some(code) => panic!("exit code {code} after {kills:?} kills (seed {seed})"),
        }
    }
    let serials = scene.serials("factures");
    let expected: Vec<u64> = (1..=MESSAGES).collect();
    let lost: Vec<_> = expected.iter().filter(|serial| serials.binary_search(serial).is_err()).collect();
    let twice: Vec<_> = serials.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(serials == expected, "lost {lost:?}, twice {twice:?} after {kills:?} kills (seed {seed})");
}

/// Has the program killed when it is at that.
fn arm(scene: &Scene, phase: Phase, random: &mut Random, child: &Arc<Mutex<Running>>, ended: &Arc<AtomicBool>) {
    let victim = Arc::clone(child);
    let kill = move || victim.lock().unwrap().0.kill().unwrap();
    let at = |name, nth, kill: Box<dyn Fn() + Send + Sync>| {
        scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::Command { name, nth }, Action::run(move |_| kill())));
    };
    match phase {
        Phase::Listing => at(["LIST", "EXAMINE", "SEARCH"][random.below(3) as usize], 1, Box::new(kill)),
        Phase::Fetching => scene.simulator.on_bytes(1 + random.below(BYTES), kill),
        Phase::Writing => at("FETCH", 2 + u32::try_from(random.below(4)).unwrap(), Box::new(kill)),
        Phase::Recording => {
            let (mut passed_by, record) = (random.below(3), scene.path("state/office.factures.json.new"));
            let ended = Arc::clone(ended);
            std::thread::spawn(move || {
                let mut there = false;
                while !ended.load(Ordering::Relaxed) {
                    let now = record.exists();
                    if now && !there {
                        if passed_by == 0 {
                            return kill();
                        }
                        passed_by -= 1;
                    }
                    there = now;
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
