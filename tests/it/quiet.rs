//! Nothing on the API server while nothing happens: looks at mailboxes without new mail cause no write, neither of a status nor of a cursor.
//! Counted at the server's audit log, not by the operator's own figures.

use std::time::{Duration, Instant};

use simulator::{Action, CLIENT_ID, CLIENT_SECRET, IdleFault, Message, Options, Simulator, TENANT_ID, Trigger, World};

use crate::support::{cluster, collector, namespace, operator, secret, servers, wait_for};
use crate::watched::{State, Watched};

/// So many are empty, and so many have mail that was collected.
const EACH: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOKS: u32 = 1_000;

#[test]
fn a_thousand_empty_looks_write_nothing_to_the_api_server() {
    let namespace = namespace("quiet");
    let names: Vec<String> = (0..EACH).flat_map(|number| [format!("empty-{number}"), format!("settled-{number}")]).collect();
    let address = |name: &str| format!("{name}@contoso.example");
    let mailboxes: Vec<String> = names.iter().map(|name| address(name)).collect();
    let simulator = Simulator::start_blocking(Options { world: World::ready(&mailboxes), ..Options::default() }).unwrap();
    for mailbox in mailboxes.iter().filter(|mailbox| mailbox.starts_with("settled")) {
        for serial in 1..=3 {
            simulator.world().deliver(mailbox, "INBOX", Message::office(serial)).unwrap();
        }
    }
    let mut installed = operator(&namespace, &servers(&simulator), &[]);
    let mut watched = Watched::start(cluster(), &namespace);
    let mut documents = secret(&namespace, "azure-app", TENANT_ID, CLIENT_ID, CLIENT_SECRET);
    for name in &names {
        documents += &collector(&namespace, name, &address(name), "azure-app", "");
    }
    cluster().apply(&documents).unwrap();
    let settled =
        |state: &State| (state.condition("Ready") == "True/Collecting" && state.status()["lastFetchTime"].is_string()).then_some(());
    for name in &names {
        watched.until(name, "a complete look", PATIENCE, settled);
    }
    // The cursors are written once: what was collected, and with which app a mailbox was reached.
    let cursors = || {
        let path = "jsonpath={range .items[*]}{.metadata.name}={.spec.workedWith},{.spec.folders[0].decided}{\"\\n\"}{end}";
        cluster().kubectl(&["get", "mailboxcursors", "--namespace", &namespace, "-o", path]).unwrap()
    };
    wait_for("all cursors", PATIENCE, || {
        let cursors = cursors();
        let written = |name: &String| {
            let decided = if name.starts_with("settled") { "1:3" } else { "" };
            cursors.lines().any(|line| line == format!("{name}={CLIENT_ID},{decided}"))
        };
        names.iter().all(written).then_some(())
    });

    // A new process over what is settled. The server says EXISTS at each of its IDLEs although nothing has come: each makes one look.
    installed.operator.stop().unwrap();
    let before = installed.writes().len();
    for mailbox in &mailboxes {
        let trigger = Trigger::Command { name: "IDLE", nth: 1 };
        let times = LOOKS / (2 * EACH);
        simulator.world().mailbox(mailbox).unwrap().faults.times(times, trigger, Action::Idle(IdleFault::ExistsBeforePlus));
    }
    let (log_ins, began) = (simulator.log_ins(), Instant::now());
    installed.operator.restart().unwrap();
    wait_for("the looks", PATIENCE, || (installed.looks() >= u64::from(LOOKS)).then_some(()));
    let (looks, took) = (installed.looks(), began.elapsed());
    assert_eq!(installed.writes().split_off(before), [], "written during {looks} looks without new mail");
    assert_eq!(simulator.log_ins() - log_ins, u64::from(2 * EACH), "each mailbox on one session");
    println!(
        "{looks} empty looks of {} mailboxes in {:.1} s, a restart before them: 0 writes in the audit log",
        names.len(),
        took.as_secs_f64()
    );

    // It was listening all the time.
    simulator.world().deliver(&mailboxes[0], "INBOX", Message::office(9)).unwrap();
    wait_for("new mail", PATIENCE, || cursors().contains(&format!("empty-0={CLIENT_ID},1")).then_some(()));
    watched.check();
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}
