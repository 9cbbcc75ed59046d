//! `cargo xtask docs`: writes the pages of docs/ that are made from the code: kinds, reasons, the guide, and the matrix of missed steps.

use anyhow::Context as _;
use xtask::cluster::run;
use xtask::{root, say};

use super::{cargo, must};

/// Page, language, file. The test `pages` (tests/it) holds the files to the code.
const PAGES: [(&str, &str, &str); 5] = [
    ("kinds", "en", "docs/en/kinds.md"),
    ("reasons", "en", "docs/en/reasons.md"),
    ("reasons", "fr", "docs/fr/reasons.md"),
    ("set-up", "en", "docs/en/set-up.md"),
    ("set-up", "fr", "docs/fr/set-up.md"),
];

pub(crate) fn docs() -> anyhow::Result<()> {
    for (page, language, file) in PAGES {
        let text = run(cargo().args(["run", "--quiet", "--package", "mailbox-collector", "--", "docs", page, "--lang", language]))?;
        let path = root().join(file);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        std::fs::write(&path, text).with_context(|| format!("write {file}"))?;
        say(format_args!("wrote {file}"));
    }
    say("Playing every missed step …");
    let test = "doctor::each_missed_step_is_named_by_check_and_by_the_operator_alike";
    must(cargo().env("MAILBOX_COLLECTOR_WRITE_DOCS", "1").args(["test", "--quiet", "--test", "it", "--", "--exact", test]))
}
