//! Power loss in the middle of collecting: the files lie on a disk that forgets what was not flushed (see `volatile_disk`), the server renders every
//! fetch anew, and in the end each message must be there once, whole, by the serial inside its body.
//!
//! `MAILBOX_COLLECTOR_POWER_CUTS` sets how many cuts (6 where it is not set), `MAILBOX_COLLECTOR_POWER_CUTS_SEED` repeats a run.

use std::process::Command;
use std::time::Duration;

use simulator::Message;

use crate::scene::{Running, Scene};
use crate::support::number_from_environment;
use crate::volatile_disk::{Blocks, Disk, Random, formatted, impossible, own_mounts};

const CUTS: &str = "MAILBOX_COLLECTOR_POWER_CUTS";
const SEED: &str = "MAILBOX_COLLECTOR_POWER_CUTS_SEED";
/// New messages in each round.
const ROUND: u64 = 150;

/// Where the record lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Elsewhere, and durable at once, as in a cluster: the sink gets no help from the record's syncs.
    Elsewhere,
    /// On the same disk, as for the command line.
    SameDisk,
}

#[test]
fn power_cuts_at_random_moments_lose_nothing_and_double_nothing() {
    if let Some(why) = impossible() {
        println!("power cuts cannot be played on this machine: {why}");
        return;
    }
    own_mounts();
    let wanted = number_from_environment(CUTS, 6);
    let seed = number_from_environment(SEED, u64::from_str_radix(&xtask::random_hex(7).unwrap(), 16).unwrap());
    let empty = formatted();
    for (state, share) in [(State::Elsewhere, wanted.div_ceil(2)), (State::SameDisk, wanted / 2)] {
        let (mut cuts, mut fell, mut messages) = (0, Fell::default(), 0);
        let mut random = Random(seed);
        // A disk holds so many rounds.
        while cuts < share {
            let here = (share - cuts).min(30);
            messages += play(&empty, state, here, &mut random, &mut fell, seed);
            cuts += here;
        }
        let Fell { before, midway, after } = fell;
        println!(
            "{cuts} power cuts (before a run had anything on disk {before}, midway {midway}, when it had ended {after}), record {state:?}, \
             {messages} messages: 0 lost, 0 twice, 0 torn (seed {seed})"
        );
    }
}

/// When the cuts fell, by what they left on the disk.
#[derive(Default)]
struct Fell {
    before: u64,
    midway: u64,
    after: u64,
}

/// One mailbox and one disk, with so many cuts; how many messages there were.
fn play(empty: &Blocks, state: State, cuts: u64, random: &mut Random, fell: &mut Fell, seed: u64) -> u64 {
    let scene = Scene::new(&["factures"]);
    // The first run is cut when it has ended. It tells how many operations a message takes, so that later cuts fall all over a run and behind it.
    let (mut sent, mut a_message) = (0, 1_000);
    let mut disk = power_on(&scene, empty.clone(), state);
    let mut files = 0;
    for cut in 1..=cuts {
        for _ in 0..ROUND {
            sent += 1;
            // Some too long for memory, so that all ways into a file are used.
            let length = if sent % 75 == 0 { 300_000 } else { 1_000 + random.below(5_000) };
            scene.put("factures", Message::sized(sent, usize::try_from(length).unwrap()));
        }
        let idle = disk.operations();
        let waiting = sent - files as u64;
        if cut > 1 {
            disk.cut_after(1 + random.below(waiting * a_message / 800), Random(random.below(u64::MAX)));
        }
        let mut child = Running::start(scene.command().arg("--once"));
        let ended = loop {
            if disk.is_cut(Duration::from_millis(2)) {
                break None;
            }
            if let Some(status) = child.0.try_wait().unwrap() {
                break Some(status);
            }
        };
        if let Some(status) = ended {
            assert!(status.success(), "{status} before cut {cut} (seed {seed})");
            a_message = (disk.operations() - idle) * 1_000 / waiting;
            disk.cut_now(Random(random.below(u64::MAX)));
        } else {
            // Dead before the disk answers again: it must not live to hear of the failure.
            child.0.kill().unwrap();
        }
        disk.fail_what_waits();
        drop(child);
        disk = power_on(&scene, disk.power_off(), state);
        let left = whole_files(&scene, seed);
        match ended {
            Some(_) => fell.after += 1,
            None if left > files => fell.midway += 1,
            None => fell.before += 1,
        }
        files = left;
    }
    scene.collect().must_be_ok();
    disk.cut_now(Random(random.below(u64::MAX)));
    let disk = power_on(&scene, disk.power_off(), state);
    whole_files(&scene, seed);
    let (expected, found) = ((1..=sent).collect::<Vec<_>>(), scene.serials("factures"));
    assert!(found == expected, "{state:?}, seed {seed}: {}", difference(&expected, &found));
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
    drop(disk);
    sent
}

/// A sync that is left out is found out: the same play with the system call answered by strace in the kernel's place.
#[test]
fn a_sync_that_is_left_out_is_caught_by_the_power_cut() {
    if let Some(why) = impossible() {
        println!("power cuts cannot be played on this machine: {why}");
        return;
    }
    own_mounts();
    let empty = formatted();
    let all = "fsync,fdatasync,syncfs";
    // Messages, the calls that do nothing, whether that must cost messages.
    for (messages, removed, caught) in [
        (10, "", false),
        (200, "", false),
        (10, "fdatasync", true),
        (200, "syncfs", true),
        (200, "fsync", true),
        (10, "fsync", true),
        (200, all, true),
    ] {
        let scene = Scene::new(&["factures"]);
        scene.deliver("factures", 1..=messages);
        let disk = power_on(&scene, empty.clone(), State::Elsewhere);
        let mut command = scene.command();
        command.arg("--once");
        if !removed.is_empty() {
            command = without(removed, &command);
        }
        let said = crate::scene::run(&mut command);
        said.must_be_ok();
        // Seed 4 loses all that is not flushed.
        disk.cut_now(Random(4));
        let disk = power_on(&scene, disk.power_off(), State::Elsewhere);
        let whole = readable(&scene);
        assert_eq!(whole != messages, caught, "{messages} messages without {removed:?}: {whole} are whole");
        drop(disk);
    }
}

/// Turns the disk on and puts it where the scene's files are to lie.
fn power_on(scene: &Scene, blocks: Blocks, state: State) -> Disk {
    let disk = Disk::power_on(blocks);
    let mut places = vec!["root"];
    if state == State::SameDisk {
        places.push("state");
    }
    for place in places {
        let (link, target) = (scene.path(place), disk.path().join(place));
        if std::fs::symlink_metadata(&link).is_ok() {
            std::fs::remove_file(&link).unwrap();
        }
        std::fs::create_dir_all(&target).unwrap();
        // The administrator's own doing, durable long ago.
        std::fs::File::open(disk.path()).unwrap().sync_all().unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
    }
    disk
}

/// Whatever lies under a name is one rendering, whole; how many there are.
fn whole_files(scene: &Scene, seed: u64) -> usize {
    let files = scene.files("factures");
    for file in &files {
        let whole = scene.simulator.rendering_of_bytes(&file.bytes).is_some();
        assert!(whole, "{} has {} bytes that are no rendering (seed {seed})", file.name, file.bytes.len());
    }
    files.len()
}

/// How many files are one rendering, whole.
fn readable(scene: &Scene) -> u64 {
    scene.files("factures").iter().filter(|file| scene.simulator.rendering_of_bytes(&file.bytes).is_some()).count() as u64
}

/// The same command under strace, which answers these system calls with success and does not let them through.
fn without(calls: &str, command: &Command) -> Command {
    let mut traced = Command::new("strace");
    let inject = format!("inject={calls}:retval=0");
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", &format!("trace={calls}"), "-e", &inject]);
    traced.arg(command.get_program()).args(command.get_args());
    traced
}

fn difference(expected: &[u64], found: &[u64]) -> String {
    let lost: Vec<_> = expected.iter().filter(|serial| !found.contains(serial)).collect();
    let twice: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    format!("lost {lost:?}, twice {twice:?}")
}
