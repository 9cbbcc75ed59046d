//! `collect` from a real IMAP server: Dovecot, with tokens of the stand-in's Entra. The bytes on disk must be those that Dovecot stores.

use simulator::{CLIENT_SECRET, serial_in};
use xtask::dovecot::Dovecot;

use crate::scene::{Scene, address, collector, run, secret};

#[test]
fn a_thousand_messages_of_a_real_server_arrive_as_it_stores_them() {
    let dovecot = Dovecot::start().unwrap();
    let scene = Scene::new(&["factures"]);
    scene.write("ca.pem", &format!("{}{}", scene.simulator.ca_pem(), dovecot.ca_pem()));
    let mut mail: Vec<Vec<u8>> = (1..=990).map(|serial| plain(serial, 400 + (serial % 13) * 700)).collect();
    mail.extend((991..=999).map(|serial| plain(serial, 280_000)));
    mail.push(b"Subject: odd\r\nMessage-ID: <odd@contoso.example>\r\n\r\n.\r\n..\r\n\xe9\xff\r\n)\r\n{4000000000}\r\n* BYE\r\nSerial: 000000001000\r\n".to_vec());
    dovecot.load(&address("factures"), &mail).unwrap();
    let collect = || run(scene.command_for(&dovecot.imap_endpoint(), "json").arg("--once"));
    let said = collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1_000, 0, 0));

    let by_serial = |mut messages: Vec<Vec<u8>>| {
        messages.sort_by_key(|bytes| serial_in(bytes));
        messages
    };
    let stored = by_serial(dovecot.read(&address("factures")).unwrap().into_iter().map(|stored| stored.bytes).collect());
    let delivered = by_serial(scene.files("factures").into_iter().map(|file| file.bytes).collect());
    assert_eq!(stored.len(), 1_000);
    assert!(stored == mail, "Dovecot keeps every byte");
    assert!(delivered == stored);

    dovecot.deliver(&address("factures"), &plain(1_001, 900)).unwrap();
    let said = collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1, 0, 0));
}

#[test]
fn folders_with_accents_and_levels_are_found_missed_and_recognised_under_another_name() {
    let dovecot = Dovecot::start().unwrap();
    let scene = Scene::new(&["factures"]);
    scene.write("ca.pem", &format!("{}{}", scene.simulator.ca_pem(), dovecot.ca_pem()));
    let order = |folders: &str| {
        scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), collector("factures", &format!("folders: [{folders}]"))));
    };
    let mailbox = address("factures");
    for (folder, serials) in [("Factures/À traiter", 1..=30), ("R&D \"été\"", 31..=40), ("台北 😀", 41..=45)] {
        dovecot.create(&mailbox, folder).unwrap();
        serials.for_each(|serial| dovecot.deliver_to(&mailbox, folder, &plain(serial, 500)).unwrap());
    }
    let collect = || run(scene.command_for(&dovecot.imap_endpoint(), "json").arg("--once"));
    order("{name: inbox}, {name: \"Factures/À traiter\"}, {name: 'R&D \"été\"'}, {name: \"台北 😀\"}");
    let said = collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (45, 0, 0));
    dovecot.deliver_to(&mailbox, "台北 😀", &plain(46, 500)).unwrap();
    let said = collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1, 0, 0));

    dovecot.rename(&mailbox, "Factures/À traiter", "Factures/Traitées").unwrap();
    dovecot.deliver_to(&mailbox, "Factures/Traitées", &plain(47, 500)).unwrap();
    let said = collect();
    assert_eq!((said.reason("factures"), said.counts("factures")), ("FolderNotFound", (0, 0, 0)));
    let message = said.of("factures")["message"].as_str().unwrap();
    assert!(message.contains("no folder 'Factures/À traiter'") && message.contains("Nearest to it: 'Factures/Traitées'"), "{message}");
    order("{name: inbox}, {name: Factures/Traitées}, {name: 'R&D \"été\"'}, {name: \"台北 😀\"}");
    let said = collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.files("factures").len()), ((1, 0, 0), 47), "nothing twice");
}

#[test]
fn addresses_subjects_and_dates_select_on_a_real_server() {
    let dovecot = Dovecot::start().unwrap();
    let scene = Scene::new(&["factures"]);
    scene.write("ca.pem", &format!("{}{}", scene.simulator.ca_pem(), dovecot.ca_pem()));
    let order = |more: &str| scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), collector("factures", more)));
    // What was loaded was received in 2023; what is delivered, now.
    let from = |serial: u64, from: &str| [format!("From: {from}\r\nTo: a@b.example\r\n").as_bytes(), &plain(serial, 500)].concat();
    let old: Vec<Vec<u8>> = (1..=250).map(|serial| from(serial, "x@y.example")).collect();
    dovecot.load(&address("factures"), &old).unwrap();
    dovecot.deliver(&address("factures"), &from(251, "=?utf-8?Q?Zo=C3=A9?= <Zoe@Partenaire.example>")).unwrap();
    dovecot.deliver(&address("factures"), &from(252, "x@y.example")).unwrap();
    let collect = || run(scene.command_for(&dovecot.imap_endpoint(), "json").arg("--once"));
    order("select: {from: [\"*@partenaire.EXAMPLE\"], subject: [\"n 25?\"], maxAge: 24h}");
    let said = collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.cursor("factures")["decided"].as_str()), ((1, 0, 0), Some("1:252")));
    assert_eq!(serial_in(&scene.files("factures")[0].bytes), Some(251));
}

#[test]
fn by_pop3_a_thousand_messages_arrive_as_the_server_stores_them_and_are_deleted_where_that_is_wanted() {
    let dovecot = Dovecot::start().unwrap();
    let scene = Scene::pop3(&["factures"]);
    scene.write("ca.pem", &format!("{}{}", scene.simulator.ca_pem(), dovecot.ca_pem()));
    let mut mail: Vec<Vec<u8>> = (1..=990).map(|serial| plain(serial, 400 + (serial % 13) * 700)).collect();
    mail.extend((991..=999).map(|serial| plain(serial, 280_000)));
    mail.push(
        b"Subject: odd\r\nMessage-ID: <odd@contoso.example>\r\n\r\n.\r\n..\r\n.\xe9\xff\r\n-ERR\r\nSerial: 000000001000\r\n.\r\n".to_vec(),
    );
    dovecot.load(&address("factures"), &mail).unwrap();
    let collect = || run(scene.command_for("127.0.0.1:9", "json").args(["--once", "--pop3-endpoint", &dovecot.pop3_endpoint()]));
    let said = collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1_000, 0, 0));
    let delivered = || {
        let mut files: Vec<Vec<u8>> = scene.files("factures").into_iter().map(|file| file.bytes).collect();
        files.sort_by_key(|bytes| serial_in(bytes));
        files
    };
    assert!(delivered() == mail);

    dovecot.deliver(&address("factures"), &plain(1_001, 900)).unwrap();
    let said = collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1, 0, 0));

    // From now on what is delivered goes; what was delivered before stays.
    let document = collector("factures", "protocol: POP3\nafterDelivery: {action: Delete}");
    scene.write("mail.yaml", &format!("{}---\n{document}", secret(simulator::CLIENT_SECRET)));
    (1_002..=1_101).for_each(|serial| dovecot.deliver(&address("factures"), &plain(serial, 900)).unwrap());
    let said = collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), delivered().len()), ((100, 0, 0), 1_101));
    assert_eq!(dovecot.read(&address("factures")).unwrap().len(), 1_001);
    let said = collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.cursor("factures")["unsettled"].is_null()), ((0, 0, 0), true));
}

#[test]
fn a_real_server_moves_deletes_and_marks_what_is_delivered() {
    const ARCHIVE: &str = "Factures/Déjà traité";
    const MESSAGES: u64 = 300;
    let dovecot = Dovecot::start().unwrap();
    let rows = [
        ("move", "afterDelivery: {action: Move, folder: Factures/Déjà traité}", (0, MESSAGES as usize, 0)),
        ("delete", "afterDelivery: {action: Delete}", (0, 0, 0)),
        ("seen", "afterDelivery: {action: MarkSeen}", (MESSAGES as usize, 0, 0)),
        ("keep", "", (MESSAGES as usize, 0, MESSAGES as usize)),
    ];
    let scene = Scene::new(&rows.map(|(name, ..)| name));
    scene.write("ca.pem", &format!("{}{}", scene.simulator.ca_pem(), dovecot.ca_pem()));
    let documents: Vec<String> = rows.iter().map(|(name, more, _)| collector(name, more)).collect();
    scene.write("mail.yaml", &format!("{}---\n{}", secret(simulator::CLIENT_SECRET), documents.join("---\n")));
    let mail: Vec<Vec<u8>> = (1..=MESSAGES).map(|serial| plain(serial, 500)).collect();
    for (name, ..) in rows {
        dovecot.load(&address(name), &mail).unwrap();
        // Before the target is there, nothing is lost and it is told.
        if name != "move" {
            dovecot.make_folder(&address(name), ARCHIVE).unwrap();
        }
    }
    let collect = || run(scene.command_for(&dovecot.imap_endpoint(), "json").arg("--once"));
    let said = collect();
    assert_eq!((said.reason("move"), said.counts("move")), ("FolderNotFound", (MESSAGES, 0, 0)), "{}", said.stdout);
    assert!(said.of("move")["message"].as_str().unwrap().contains(ARCHIVE));
    dovecot.make_folder(&address("move"), ARCHIVE).unwrap();
    let said = collect();
    said.must_be_ok();
    for (name, _, expected) in rows {
        assert_eq!(said.counts(name), (0, 0, 0), "{name}: nothing is fetched again");
        let count = |folder, kind: &[&str]| dovecot.count(&address(name), folder, kind).unwrap();
        assert_eq!((count("INBOX", &["ALL"]), count(ARCHIVE, &["ALL"]), count("INBOX", &["UNSEEN"])), expected, "{name}");
        let mut serials: Vec<u64> = scene.files(name).iter().filter_map(|file| serial_in(&file.bytes)).collect();
        serials.sort_unstable();
        assert_eq!(serials, (1..=MESSAGES).collect::<Vec<_>>(), "{name}");
        assert!(scene.cursor(name)["unsettled"].is_null(), "{name}: {}", scene.cursor(name));
    }
}

fn plain(serial: u64, bytes: u64) -> Vec<u8> {
    let mut text = format!("Message-ID: <{serial}@contoso.example>\r\nSubject: n {serial}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nBonjour,\r\nSerial: {serial:012}\r\n").into_bytes();
    while (text.len() as u64) < bytes {
        text.extend_from_slice("ligne à ligne, jusqu'au bout\r\n".as_bytes());
    }
    text
}
