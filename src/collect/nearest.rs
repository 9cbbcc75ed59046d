//! Which names come nearest to one that does not exist, for the remedy. Pure: no I/O, no clock.

/// Names told.
const TOLD: usize = 3;
/// Characters compared; folder names are seldom longer.
const COMPARED: usize = 64;

/// Up to three of `names`, the most similar first. Without case, and a name counts as near when only its last level is.
pub(super) fn nearest(name: &str, names: &[String]) -> Vec<String> {
    let wanted = folded(name);
    let wanted_last = last_level(&wanted);
    let mut ranked: Vec<(usize, &String)> = names
        .iter()
        .map(|candidate| {
            let other = folded(candidate);
            let whole = distance(&wanted, &other);
            let last = distance(wanted_last, last_level(&other)) + 1;
            (whole.min(last), candidate)
        })
        .collect();
    ranked.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.cmp(other)));
    ranked.into_iter().take(TOLD).map(|(_, name)| name.clone()).collect()
}

fn folded(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).take(COMPARED).collect()
}

fn last_level(name: &[char]) -> &[char] {
    name.rsplit(|c| *c == '/').next().unwrap_or(name)
}

/// Levenshtein's: how many characters must be put in, taken out or changed.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (taken, a) in one.iter().enumerate() {
        let mut diagonal = taken;
        let mut left = taken + 1;
        for (b, above) in other.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(a != b);
            diagonal = *above;
            left = changed.min(*above + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = taken + 1;
        }
    }
    row.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_fewest_changes() {
        for (one, other, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("ab", "ba", 2)]
        {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(one), &chars(other)), expected, "{one} {other}");
        }
    }

    #[test]
    fn the_most_similar_names_are_told() {
        let names: Vec<String> =
            ["INBOX", "Brouillons", "Factures", "Factures/À traiter", "Factures/Archive", "Éléments envoyés"].map(str::to_owned).to_vec();
        for (name, expected) in [
            ("Factures/A traiter", "Factures/À traiter"),
            ("à traiter", "Factures/À traiter"),
            ("factures", "Factures"),
            ("Archive", "Factures/Archive"),
            ("Elements envoyes", "Éléments envoyés"),
        ] {
            assert_eq!(nearest(name, &names).first().map(String::as_str), Some(expected), "{name}");
        }
        assert_eq!(nearest("x", &names).len(), 3);
        assert_eq!(nearest("x", &[]).len(), 0);
    }
}
