//! The language of what is printed for a person: a flag, else what the environment says. Pure but for reading the environment.

use clap::ValueEnum;

use crate::diagnosis::Language;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lang {
    En,
    Fr,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::En => Self::En,
            Lang::Fr => Self::Fr,
        }
    }
}

/// The flag, or the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set, as `setlocale(3)` reads them.
pub(super) fn language(flag: Option<Lang>) -> Language {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    flag.map_or_else(|| of_locale(["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(variable).as_deref()), Language::from)
}

fn of_locale(locale: Option<&str>) -> Language {
    let word = locale.and_then(|locale| locale.split(['_', '.', '@', '-']).next());
    if word.is_some_and(|word| word.eq_ignore_ascii_case("fr")) { Language::Fr } else { Language::En }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_french_locale_means_french_and_all_others_english() {
        for locale in ["fr_FR.UTF-8", "fr", "fr_CA", "fr@euro", "FR_be"] {
            assert_eq!(of_locale(Some(locale)), Language::Fr, "{locale}");
        }
        for locale in ["C.UTF-8", "POSIX", "en_GB.UTF-8", "frp_IT", "de_DE", ""] {
            assert_eq!(of_locale(Some(locale)), Language::En, "{locale}");
        }
        assert_eq!(of_locale(None), Language::En);
    }
}
