//! `spec.sinks`: which sinks, and each sink's plain configuration. Pure: no I/O, no clock.

use std::path::Path;

use super::grammar::{self, Excerpt, PathProblem};
use super::{Error, Options, not_built, plainly_wrong, wrong};
use crate::api::{self, MailboxCollectorSpec};
use crate::collect::{NamedSink, SinkConfig};

pub(super) fn sinks(spec: &MailboxCollectorSpec, namespace: &str, options: &Options) -> Result<Vec<NamedSink>, Error> {
    const ONE_FILE: &str = "write one sink, for example sinks: [{name: drop, file: {path: invoices}}]";
    match spec.sinks.as_slice() {
        [] => Err(plainly_wrong("spec.sinks", "is empty", ONE_FILE)),
        [only] => Ok(vec![sink(only, namespace, options)?]),
        [_, _, ..] => Err(not_built("spec.sinks with more than one sink", ONE_FILE)),
    }
}

fn sink(sink: &api::Sink, namespace: &str, options: &Options) -> Result<NamedSink, Error> {
    const ONE_MEMBER: &str = "write exactly one member besides name, for example {name: drop, file: {path: invoices}}";
    if sink.name.is_empty() || sink.name.len() > 63 || !grammar::is_object_name(&sink.name) {
        return Err(wrong(
            "spec.sinks[0].name",
            Excerpt(&sink.name),
            "is not a name",
            "write lower-case letters, digits and \"-\", at most 63",
        ));
    }
    let others = [
        ("objectStore", sink.object_store.is_some()),
        ("webhook", sink.webhook.is_some()),
        ("smtp", sink.smtp.is_some()),
        ("lmtp", sink.lmtp.is_some()),
        ("imapAppend", sink.imap_append.is_some()),
    ];
    let given = others.iter().filter(|(_, given)| *given).count() + usize::from(sink.file.is_some());
    match (given, &sink.file) {
        (0, _) => Err(plainly_wrong("spec.sinks[0]", "has no member besides name", ONE_MEMBER)),
        (1, Some(file)) => file_sink(&sink.name, file, namespace, options),
        (1, None) => {
            let member = others.iter().find(|(_, given)| *given).map_or("", |(name, _)| *name);
            Err(not_built(format!("spec.sinks[0].{member}"), "write a file sink, for example {name: drop, file: {path: invoices}}"))
        }
        (_, _) => Err(plainly_wrong("spec.sinks[0]", "has more than one member besides name", ONE_MEMBER)),
    }
}

fn file_sink(name: &str, file: &api::FileSink, namespace: &str, options: &Options) -> Result<NamedSink, Error> {
    match file.format.as_deref() {
        None | Some("EML") => {}
        Some("Maildir") => return Err(not_built("spec.sinks[0].file.format: Maildir", "write format: EML, or remove the field")),
        Some(other) => {
            return Err(wrong("spec.sinks[0].file.format", Excerpt(other), "is not a format", "write format: EML, or remove the field"));
        }
    }
    let path = grammar::relative_path(&file.path).map_err(|problem: PathProblem| {
        wrong("spec.sinks[0].file.path", Excerpt(&file.path), problem, "write folder names separated by \"/\", for example invoices/2026")
    })?;
    if !options.file_sink {
        return Err(Error::FileSinkNotEnabled { field: "spec.sinks[0].file".to_owned() });
    }
    Ok(NamedSink { name: name.to_owned(), config: SinkConfig::File { directory: Path::new(namespace).join(path) } })
}
