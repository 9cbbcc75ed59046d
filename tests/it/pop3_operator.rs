//! POP3 through the operator: what is kept is remembered by name in the cluster, what is to be deleted goes, a request fetches at once.

use std::time::Duration;

use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Simulator, TENANT_ID, World};

use crate::support::{cluster, collector, mail, namespace, operator, secret, serials, servers, wait_for};

const PATIENCE: Duration = Duration::from_secs(90);
const MAILBOXES: [(&str, &str); 2] = [("kept", "Keep"), ("emptied", "Delete")];

fn address(name: &str) -> String {
    format!("{name}@contoso.example")
}

#[test]
fn mail_is_collected_by_pop3_and_kept_or_deleted_as_the_spec_says() {
    let namespace = namespace("pop3");
    let addresses = MAILBOXES.map(|(name, _)| address(name));
    let simulator = Simulator::start_blocking(Options { world: World::ready(&addresses), ..Options::default() }).unwrap();
    simulator.world().permit_pop3();
    let name = |uid: u32| (uid, format!("{uid:08x}5f3c1234"));
    simulator.world().mailbox(&address("kept")).unwrap().unique_ids = (1..=20).map(name).collect();
    let send = |serials: std::ops::RangeInclusive<u64>| {
        for (name, _) in MAILBOXES {
            for serial in serials.clone() {
                simulator.world().deliver(&address(name), "INBOX", Message::sized(serial, 3_000)).unwrap();
            }
        }
    };
    send(1..=10);
    let installed = operator(&namespace, &servers(&simulator), &[&format!("--pop3-endpoint={}", simulator.pop3_endpoint())]);
    cluster().apply(&secret(&namespace, "azure-app", TENANT_ID, CLIENT_ID, CLIENT_SECRET)).unwrap();
    for (name, action) in MAILBOXES {
        let further = format!("protocol: POP3\nafterDelivery: {{action: {action}}}\n");
        cluster().apply(&collector(&namespace, name, &address(name), "azure-app", &further)).unwrap();
        cluster().kubectl(&["wait", &format!("mbc/{name}"), "--namespace", &namespace, "--for=condition=Ready", "--timeout=60s"]).unwrap();
    }
    let has = |name: &str, count: usize| {
        let folder = installed.folder(&namespace, name);
        wait_for(&format!("{count} files of {name}"), PATIENCE, || (mail(&folder).len() >= count).then_some(()));
        assert_eq!(serials(&simulator, &folder), (1..=count as u64).collect::<Vec<_>>(), "{name}");
    };
    MAILBOXES.iter().for_each(|(name, _)| has(name, 10));
    let left = |name: &str| simulator.world().mailbox(&address(name)).unwrap().folder("INBOX").uids().len();
    wait_for("an empty mailbox", PATIENCE, || (left("emptied") == 0).then_some(()));

    let renderings = simulator.renderings().len();
    send(11..=12);
    for (name, _) in MAILBOXES {
        cluster()
            .kubectl(&["annotate", &format!("mbc/{name}"), "--namespace", &namespace, "mailbox-collector.io/requestedAt=now"])
            .unwrap();
        has(name, 12);
    }
    wait_for("an empty mailbox", PATIENCE, || (left("emptied") == 0).then_some(()));
    assert_eq!(left("kept"), 12);
    assert_eq!(simulator.renderings().len(), renderings + 4, "nothing is fetched twice");
    // The names lie in the cluster whole: nothing of them is pruned.
    let names = || {
        cluster().kubectl(&["get", "mbcur/kept", "--namespace", &namespace, "--output=jsonpath={.spec.folders[0].names.numbers}"]).unwrap()
    };
    wait_for("the record of all names", PATIENCE, || (names() == "2147483648:2147483659").then_some(()));
    assert!(installed.refused().is_empty());
}
