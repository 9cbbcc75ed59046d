//! The splitter against replies whose meaning is known by construction, cut anywhere.

use proptest::prelude::*;

use super::*;

/// All that a reader of the splitter sees.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    parser: Vec<u8>,
    long: Vec<(u64, Option<u32>, Vec<u8>)>,
    bodies: Vec<Body>,
    found: Vec<(u32, u32)>,
    violation: Option<Violation>,
}

fn run<'a>(max: u64, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut splitter = Splitter::new(max);
    splitter.search(1, u32::MAX);
    let (mut seen, mut received, mut out) = (Seen::default(), BytesMut::new(), BytesMut::new());
    for piece in pieces {
        received.extend_from_slice(piece);
        loop {
            let moved = match splitter.advance(&mut received, &mut out) {
                Ok(moved) => moved,
                Err(violation) => {
                    seen.parser.extend_from_slice(&out.split());
                    seen.violation = Some(violation);
                    return seen;
                }
            };
            seen.parser.extend_from_slice(&out.split());
            let passed = received.len().min(splitter.passing() as usize);
            seen.parser.extend_from_slice(&received.split_to(passed));
            splitter.passed(passed);
            let part = splitter.take_diverted();
            let idle = !moved && passed == 0 && part.is_none();
            match part {
                Some(Diverted::Begin(length, uid)) => seen.long.push((length, uid, Vec::new())),
                Some(Diverted::Chunk(bytes)) => seen.long.last_mut().unwrap().2.extend_from_slice(&bytes),
                None => {}
            }
            if idle {
                break;
            }
        }
        seen.bodies.extend(std::iter::from_fn(|| splitter.next_body()));
    }
    seen.found = splitter.take_found();
    seen
}

fn cut<'a>(whole: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = whole;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = tail;
        Some(piece)
    })
}

/// One reply, with what must become of it.
#[derive(Clone, Debug)]
enum Model {
    Message { uid: u32, uid_last: bool, noise: usize, body: Vec<u8>, form: usize },
    Line(&'static str),
    Search(Vec<u32>),
}

const NOISE: [&str; 6] =
    ["FLAGS (\\Seen)", "X ((\"a)\" {2}\r\n)( b))", "ENVELOPE NIL", "X-Y {7}\r\n) {3}\r\n", "BODY[TEXT]<0> {4}\r\nBODY", "INTERNALDATE NIL"];

fn model() -> impl Strategy<Value = Model> {
    prop_oneof![
        4 => (1..1_000_000u32, any::<bool>(), 0..NOISE.len(), prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                (DIVERT_FROM - 2..DIVERT_FROM + 3 * CHUNK).prop_map(|n| b"x\r\n) {5}\r\n".iter().copied().cycle().take(n).collect()),
            ], 0..4usize)
            .prop_map(|(uid, uid_last, noise, body, form)| Model::Message { uid, uid_last, noise, body, form }),
        1 => prop::sample::select(vec!["* 3 EXISTS", "* 3 EXPUNGE", "* OK [UIDVALIDITY 14] x", "A1 OK done", "+ go", "* BYE Connection closed. 14"])
            .prop_map(Model::Line),
        1 => prop::collection::vec(1..50u32, 0..9).prop_map(Model::Search),
    ]
}

const LARGEST: usize = DIVERT_FROM + 2 * CHUNK;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_reply_comes_through_as_meant_at_any_cutting(replies in prop::collection::vec(model(), 1..8), sizes in prop::collection::vec(1..40_000usize, 1..8)) {
        let (mut wire, mut expected) = (Vec::new(), Seen::default());
        for reply in &replies {
            match reply {
                Model::Message { uid, uid_last, noise, body, form } => {
                    let noise = NOISE[*noise];
                    let before = if *uid_last { noise.to_owned() } else { format!("UID {uid} {noise}") };
                    let after = if *uid_last { format!(" UID {uid} {noise})\r\n") } else { ")\r\n".to_owned() };
                    let header = match form { 0 => "BODY[] {", 1 => "body[] ~{", 2 => " BODY[]  {", _ => "BODY[] {" };
                    let close = if *form == 3 { "+}\r\n" } else { "}\r\n" };
                    wire.extend_from_slice(format!("* 7 FETCH ({before} {header}{}{close}", body.len()).as_bytes());
                    wire.extend_from_slice(body);
                    wire.extend_from_slice(after.as_bytes());
                    let length = body.len() as u64;
                    let known = (!uid_last).then_some(*uid);
                    let shown = if body.len() > LARGEST {
                        expected.bodies.push(Body::TooLarge(length));
                        &[][..]
                    } else if body.len() > DIVERT_FROM {
                        expected.bodies.push(Body::Diverted(length));
                        expected.long.push((length, known, body.clone()));
                        &[][..]
                    } else {
                        expected.bodies.push(Body::Inline(length));
                        body
                    };
                    let before = if *uid_last { String::new() } else { format!("UID {uid} ") };
                    let after = if *uid_last { format!(" UID {uid})\r\n") } else { ")\r\n".to_owned() };
                    expected.parser.extend_from_slice(format!("* 7 FETCH ({before}BODY[] {{{}}}\r\n", shown.len()).as_bytes());
                    expected.parser.extend_from_slice(shown);
                    expected.parser.extend_from_slice(after.as_bytes());
                }
                Model::Line(line) => {
                    for target in [&mut wire, &mut expected.parser] {
                        target.extend_from_slice(format!("{line}\r\n").as_bytes());
                    }
                }
                Model::Search(uids) => {
                    let numbers: String = uids.iter().map(|uid| format!(" {uid}")).collect();
                    wire.extend_from_slice(format!("* SEARCH{numbers}\r\n").as_bytes());
                    for uid in uids {
                        match expected.found.last_mut() {
                            Some((_, high)) if *high + 1 == *uid => *high = *uid,
                            _ => expected.found.push((*uid, *uid)),
                        }
                    }
                }
            }
        }
        let seen = run(LARGEST as u64, cut(&wire, &sizes));
        prop_assert!(seen == expected);
    }

    #[test]
    fn cutting_changes_nothing_whatever_comes(
        wire in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![&b"\r\n"[..], b"\n", b"* ", b"1 FETCH (", b"BODY[] ", b"{3}\r\n", b"{0}\r\n", b")", b"(", b"\"", b"UID 4 ", b"A1 OK", b"SEARCH 1", b"NIL", b"~", b"\\"]).prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..4),
        ], 0..60),
        sizes in prop::collection::vec(1..9usize, 1..5),
    ) {
        let wire = wire.concat();
        let (whole, pieces) = (run(2, std::iter::once(&wire[..])), run(2, cut(&wire, &sizes)));
        prop_assert_eq!(&whole.violation, &pieces.violation);
        prop_assert_eq!(&whole.parser, &pieces.parser);
        // The parser takes every complete reply that it is given.
        let mut rest = &whole.parser[..];
        while !rest.is_empty() {
            match imap_proto::Response::parse(rest) {
                Ok((tail, _)) => rest = tail,
                Err(error) => {
                    prop_assert!(error.is_incomplete(), "{}", String::from_utf8_lossy(rest));
                    break;
                }
            }
        }
    }
}

#[test]
fn a_literal_cut_at_every_byte_is_the_same() {
    let wire =
        b"* 1 FETCH (UID 4 INTERNALDATE \"17-Jul-2026 02:44:25 +0200\" X {4}\r\n\r\n){ BODY[] {12}\r\n)\r\nA1 OK x\r\n)\r\nA1 OK done\r\n";
    let expected = run(100, std::iter::once(&wire[..]));
    assert_eq!(
        String::from_utf8_lossy(&expected.parser),
        "* 1 FETCH (UID 4 INTERNALDATE \"17-Jul-2026 02:44:25 +0200\" BODY[] {12}\r\n)\r\nA1 OK x\r\n)\r\nA1 OK done\r\n"
    );
    assert_eq!(expected.bodies, [Body::Inline(12)]);
    for first in 0..wire.len() {
        let (a, b) = wire.split_at(first);
        assert_eq!(run(100, [a, b].into_iter()), expected, "cut at {first}");
    }
}
