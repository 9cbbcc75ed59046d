//! How soon new mail is safe: from the stand-in's write of EXISTS into an IDLE to the return of the sink folder's fsync, taken from the system
//! calls of the operator itself (strace), on the real API server. Nothing in the product takes part in the measurement.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Simulator, TENANT_ID, World};

use crate::support::{cluster, collector, mail, namespace, number_from_environment, operator_as, secret, serials, servers, wait_for};

const MAILBOX: &str = "factures@contoso.example";
const PATIENCE: Duration = Duration::from_secs(60);
/// So many messages are pushed when this variable says so; then the figure of the design must be reached, too. Else it is only told.
const PUSHES: &str = "MAILBOX_COLLECTOR_PUSHES";
/// The figure, for the 99th percentile.
const FIGURE: Duration = Duration::from_millis(30);

#[test]
fn new_mail_is_durable_soon_after_the_server_announces_it() {
    let asked = std::env::var_os(PUSHES).is_some();
    let count = number_from_environment(PUSHES, 10);
    let namespace = namespace("push");
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (program, trace) = (folder.path().join("traced"), folder.path().join("trace"));
    // -D: the program stays our child; --seccomp-bpf: only the calls asked for stop it.
    let script = format!(
        "#!/bin/sh\nexec strace -D -f --seccomp-bpf -ttt -T -e trace=fsync -o '{}' '{}' \"$@\"\n",
        trace.display(),
        env!("CARGO_BIN_EXE_mailbox-collector")
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut installed = operator_as(program, &namespace, &servers(&simulator), &[]);
    let documents =
        secret(&namespace, "azure-app", TENANT_ID, CLIENT_ID, CLIENT_SECRET) + &collector(&namespace, "factures", MAILBOX, "azure-app", "");
    cluster().apply(&documents).unwrap();
    let files = installed.folder(&namespace, "factures");

    let (mut took, mut idled) = (Vec::new(), 0);
    // One more than is counted: the first one also creates the folder.
    for serial in 1..=count + 1 {
        let idles = || simulator.commands().get("IDLE").copied().unwrap_or(0);
        wait_for("IDLE", PATIENCE, || (idles() > idled && simulator.connections_open() == 1).then_some(()));
        idled = idles();
        let before = mail(&files).len();
        let uid = simulator.world().deliver(MAILBOX, "INBOX", Message::sized(serial, 3_700)).unwrap();
        wait_for("the file", PATIENCE, || (mail(&files).len() > before).then_some(()));
        let announced = simulator.announcements().into_iter().find(|told| told.uid_next > uid).expect("it came by push").unix_nanoseconds;
        let durable = wait_for("the folder's fsync", PATIENCE, || returns(&trace).into_iter().find(|returned| *returned > announced));
        took.push(Duration::from_nanos(durable - announced));
    }
    assert_eq!(serials(&simulator, &files), (1..=count + 1).collect::<Vec<_>>());
    took.remove(0);
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[(took.len() * 99).div_ceil(100) - 1]);
    println!(
        "from the server's write of EXISTS to the return of the folder's fsync, {count} messages of 3.7 KB: p50 {half:?}, p99 {most:?}, longest {:?}",
        took[took.len() - 1]
    );
    assert!(most < if asked { FIGURE } else { Duration::from_secs(2) }, "{took:?}");
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}

/// When each fsync returned, in nanoseconds since 1970. The sink alone calls it, and for folders only: files get fdatasync or syncfs, and
/// the cursor lies in the cluster.
fn returns(trace: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    // `123 1700000000.123456 fsync(9) = 0 <0.000123>`; where threads interleave, ` <unfinished ...>` and a line `<... fsync resumed>`, whose
    // time is that of the return.
    let complete = text.lines().filter(|line| line.contains(" = 0 <") && line.contains("fsync"));
    let mut returns: Vec<u64> = complete
        .map(|line| {
            let at = nanoseconds(line.split_whitespace().nth(1).unwrap());
            let lasted = nanoseconds(line.rsplit('<').next().unwrap().trim_end_matches('>'));
            if line.contains("resumed") { at } else { at + lasted }
        })
        .collect();
    returns.sort_unstable();
    returns
}

/// `1700000000.123456` as nanoseconds.
fn nanoseconds(seconds: &str) -> u64 {
    let (whole, part) = seconds.split_once('.').unwrap();
    whole.parse::<u64>().unwrap() * 1_000_000_000 + part.parse::<u64>().unwrap() * 1_000
}
