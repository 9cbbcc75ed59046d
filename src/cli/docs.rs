//! `mailbox-collector docs`, hidden: prints the pages of the documentation that are made from the code, for `cargo xtask docs`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::language::Lang;
use super::say;
use crate::diagnosis::{Language, reference};
use crate::doctor::onboard;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    page: Page,
    #[arg(long, value_enum, default_value = "en")]
    lang: Lang,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    /// Kinds and fields; in English whatever the language, as `kubectl explain`
    Kinds,
    /// Conditions and reasons
    Reasons,
    /// The guide, for an example's tenant
    SetUp,
}

pub(super) fn execute(arguments: &Arguments) -> ExitCode {
    let language = Language::from(arguments.lang);
    say(&match arguments.page {
        Page::Kinds => crate::api::kinds_page(),
        Page::Reasons => reference::page(language),
        Page::SetUp => onboard::page(language),
    })
}
