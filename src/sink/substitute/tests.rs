//! Tables of mail that is, and is not, what it seems.

use super::*;

const SUBSTITUTE: &str = "From: \"Microsoft Exchange Server\" <>\r\nTo: x@y\r\nSubject: Retrieval using the IMAP4 protocol failed for the following message:\r\n 12\r\n\r\nThe server couldn't retrieve the following message:\r\n";

fn multipart(part_header: &str) -> String {
    format!(
        "Subject: x\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"_004_b;b_\"\r\n\r\npreamble\r\n--_004_b;b_\r\nContent-Type: text/plain\r\n\r\nhello\r\n\
         - a list\r\n--_004_b;b_\r\n{part_header}\r\n\r\nAAAA\r\n--_004_b;b_--\r\n"
    )
}

fn nested(part_header: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=outer\n\n--outer\nContent-Type: multipart/related; boundary=inner\n\n--inner\n\nx\n--inner--\n\
         --outer  \n{part_header}\n\nx\n--outer--\n"
    )
}

#[test]
fn a_substitute_is_suspected() {
    let cases = [
        SUBSTITUTE.to_owned(),
        SUBSTITUTE.replace("IMAP4", "POP3").replace("\r\n", "\n"),
        SUBSTITUTE.replace("\"Microsoft Exchange Server\"", "Microsoft Exchange Server"),
        "Subject: Retrieval using the IMAP4 protocol failed\r\nFrom: Microsoft Exchange Server".to_owned(),
    ];
    for message in cases {
        assert_eq!(suspicion(message.as_bytes()), Some(Suspicion::RetrievalFailed), "{message}");
    }
}

#[test]
fn a_placeholder_is_suspected() {
    let headers = [
        "Content-Type: text/html; name=\"Safe Attachments Scan In Progress.html\"",
        "Content-Type: text/html;\r\n\tcharset=\"x;y\";\r\n\tname=\"Safe Attachments Scan\r\n In Progress\"",
        "Content-Disposition: attachment; size=1; filename=\"Safe Attachments Scan In Progress\"",
        "content-disposition: attachment; FILENAME*=utf-8''Safe%20Attachments%20Scan%20In%20Progress.eml",
        "Content-Type: message/rfc822\r\n\r\nFrom: x\r\nSubject: Safe Attachments Scan In Progress",
    ];
    for header in headers {
        assert_eq!(suspicion(multipart(header).as_bytes()), Some(Suspicion::ScanInProgress), "{header}");
        assert_eq!(suspicion(nested(&header.replace("\r\n", "\n")).as_bytes()), Some(Suspicion::ScanInProgress), "{header}");
    }
}

#[test]
fn ordinary_mail_is_not_suspected() {
    let quoting =
        multipart("Content-Type: text/plain; name=\"invoice.txt\"\r\n\r\nContent-Type: x/y; name=\"Safe Attachments Scan In Progress\"");
    let cases = [
        String::new(),
        "Subject: hello\r\n\r\nRetrieval using the IMAP4 protocol failed\r\nFrom: Microsoft Exchange Server\r\n".to_owned(),
        "Subject: FW: Retrieval using the IMAP4 protocol failed\r\nFrom: Microsoft Exchange Server <a@b>\r\n\r\n".to_owned(),
        SUBSTITUTE.replace("\"Microsoft Exchange Server\"", "A person"),
        format!("Subject: fwd\r\n\r\n{SUBSTITUTE}"),
        quoting,
        format!("Content-Type: text/plain\r\n\r\n{}", multipart("Content-Type: a/b; name=\"Safe Attachments Scan In Progress\"")),
        multipart("Content-Type: text/plain\r\nSubject: Safe Attachments Scan In Progress"),
        multipart("Content-Type: text/plain; name=\"Notes on Safe Attachments Scan In Progress.txt\""),
        multipart("Content-Type: text/plain; name=\"Safe Attachments Scan In Progress explained.txt\""),
        multipart("Content-Description: x\r\n\r\nSafe Attachments Scan In Progress"),
        // Inside an attached message nothing changes any more.
        multipart(&format!(
            "Content-Type: message/rfc822\r\n\r\n{}",
            multipart("Content-Type: a/b; name=\"Safe Attachments Scan In Progress\"").replace("_004_b;b_", "other")
        )),
        // After the last boundary there are no parts.
        multipart("X: y") + "--_004_b;b_\r\nContent-Type: a/b; name=\"Safe Attachments Scan In Progress\"\r\n\r\n",
    ];
    for message in cases {
        assert_eq!(suspicion(message.as_bytes()), None, "{message}");
    }
}

#[test]
fn the_pieces_a_message_comes_in_make_no_difference() {
    let messages = [
        SUBSTITUTE.to_owned(),
        multipart("Content-Disposition: attachment; filename=\"Safe Attachments Scan In Progress\""),
        nested("Content-Type: message/rfc822\n\nSubject: Safe Attachments Scan In Progress"),
        multipart("Content-Type: a/b"),
    ];
    for message in messages {
        let expected = suspicion(message.as_bytes());
        for size in 1..message.len() {
            let mut examination = Examination::new();
            message.as_bytes().chunks(size).for_each(|piece| examination.feed(piece));
            assert_eq!(examination.suspicion(), expected, "pieces of {size} bytes: {message}");
            assert!(message.as_bytes().starts_with(examination.header()));
        }
    }
}

#[test]
fn memory_stays_bounded_whatever_comes() {
    let mut examination = Examination::new();
    let mut feed = |text: &str, times: usize| {
        (0..times).for_each(|_| examination.feed(text.as_bytes()));
        examination.header.capacity()
            + examination.part.capacity()
            + examination.line.capacity()
            + examination.boundaries.len() * BOUNDARY_LIMIT
    };
    feed("Content-Type: multipart/mixed; boundary=b\r\n", 1);
    assert!(feed("X: header without end\r\n", 100_000) < 1 << 20);
    feed("\r\n", 1);
    assert!(feed("--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", 1_000) < 1 << 20);
    assert!(feed("-------------------------------", 100_000) < 1 << 20);
    feed("\r\n--b\r\n", 1);
    assert!(feed("X: part header without end\r\n", 100_000) < 1 << 20);
}
