//! The pages of the documentation that are made from the code are as committed, and those that people write link to pages that are there.

use mailbox_collector::api;
use mailbox_collector::diagnosis::{Language, reference};
use mailbox_collector::doctor::onboard;

use crate::doctor::compare;

#[test]
fn the_pages_made_from_the_code_are_as_committed() {
    let docs = xtask::root().join("docs");
    compare(&docs.join("en/kinds.md"), &api::kinds_page());
    for (folder, language) in [("en", Language::En), ("fr", Language::Fr)] {
        compare(&docs.join(folder).join("reasons.md"), &reference::page(language));
        compare(&docs.join(folder).join("set-up.md"), &onboard::page(language));
    }
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    for folder in ["docs/en", "docs/fr"] {
        let folder = xtask::root().join(folder);
        for entry in std::fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap();
            for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| target.ends_with(".md")) {
                assert!(folder.join(target).is_file(), "{}: {target}", file.display());
            }
        }
    }
}

#[test]
fn both_languages_have_the_same_pages() {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(xtask::root().join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut english = names("docs/en");
    english.retain(|name| name != "kinds.md");
    assert_eq!(english, names("docs/fr"));
}
