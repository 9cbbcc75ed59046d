//! What the fuzz targets in `tests/fuzz` call where nothing public leads: compiled only there. Panics are findings.

use bytes::BytesMut;

use super::splitter::{Body, Diverted, Splitter, Violation};

/// All that a reader of the splitter sees.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    parser: Vec<u8>,
    long: Vec<(u64, Option<u32>, Vec<u8>)>,
    bodies: Vec<Body>,
    found: Vec<(u32, u32)>,
    violation: Option<Violation>,
}

/// However a server's bytes are cut, what the splitter makes of them is the same, and never much more than they are. The first byte says how
/// they are cut.
pub fn splitter(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = run(std::iter::once(bytes));
    let pieces = run(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, pieces, "cut into pieces of {size}");
    // A rewritten line is at most a few words longer than it was.
    assert!(whole.parser.len() <= bytes.len() * 8 + 64, "{} bytes became {}", bytes.len(), whole.parser.len());
}

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut splitter = Splitter::new(1 << 20);
    splitter.search(1, 1_000_000);
    let (mut seen, mut received, mut out) = (Seen::default(), BytesMut::new(), BytesMut::new());
    for piece in pieces {
        received.extend_from_slice(piece);
        loop {
            let moved = splitter.advance(&mut received, &mut out);
            seen.parser.extend_from_slice(&out.split());
            let moved = match moved {
                Ok(moved) => moved,
                Err(violation) => {
                    seen.violation = Some(violation);
                    seen.bodies.extend(std::iter::from_fn(|| splitter.next_body()));
                    seen.found = splitter.take_found();
                    return seen;
                }
            };
            let passed = received.len().min(usize::try_from(splitter.passing()).unwrap_or(usize::MAX));
            seen.parser.extend_from_slice(&received.split_to(passed));
            splitter.passed(passed);
            let part = splitter.take_diverted();
            let idle = !moved && passed == 0 && part.is_none();
            match part {
                Some(Diverted::Begin(length, uid)) => seen.long.push((length, uid, Vec::new())),
                Some(Diverted::Chunk(bytes)) => {
                    seen.long.iter_mut().next_back().into_iter().for_each(|long| long.2.extend_from_slice(&bytes))
                }
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
