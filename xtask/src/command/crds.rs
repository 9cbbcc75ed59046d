//! `cargo xtask crds`: writes what `mailbox-collector crds` prints to `crds/`, and the chart's byte-equal copy.

use std::fs;

use anyhow::{Context as _, bail};
use xtask::cluster::{documents, run};
use xtask::{root, say};

use super::cargo;

const FOLDERS: [&str; 2] = ["crds", "charts/mailbox-collector/files/crds"];

pub(crate) fn crds() -> anyhow::Result<()> {
    let stream = run(cargo().args(["run", "--quiet", "--package", "mailbox-collector", "--", "crds"]))?;
    let files = split(&stream)?;
    for folder in FOLDERS.map(|folder| root().join(folder)) {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".yaml") && !files.iter().any(|(wanted, _)| *wanted == name) {
                fs::remove_file(folder.join(&name))?;
                say(format_args!("removed {}", folder.join(name).display()));
            }
        }
        for (name, text) in &files {
            let file = folder.join(name);
            if fs::read_to_string(&file).is_ok_and(|old| old == *text) {
                continue;
            }
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            say(format_args!("wrote {}", file.display()));
        }
    }
    Ok(())
}

/// (file name, text) of each document, named by the plural of its kind.
fn split(stream: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for document in documents(stream) {
        let plural = document.lines().find_map(|line| line.trim_start().strip_prefix("plural:")).map(str::trim);
        let plural = plural.context("a document without spec.names.plural: is it a CustomResourceDefinition?")?;
        files.push((format!("{plural}.yaml"), format!("---\n{document}\n")));
    }
    if files.is_empty() {
        bail!("`mailbox-collector crds` printed nothing");
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_document_becomes_a_file_named_by_its_plural() {
        let stream = "---\nkind: CustomResourceDefinition\nspec:\n  names:\n    plural: as\n---\nkind: CustomResourceDefinition\nspec:\n  names:\n    plural: bs\n";
        let files = super::split(stream).unwrap();
        assert_eq!(files[0], ("as.yaml".to_owned(), "---\nkind: CustomResourceDefinition\nspec:\n  names:\n    plural: as\n".to_owned()));
        assert_eq!(files[1].0, "bs.yaml");
    }
}
