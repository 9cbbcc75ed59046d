//! What lies on disk, compared with what the stand-in gave out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::stand_in::{MAILBOX, StandIn};

/// The `.eml` files below a folder.
#[derive(Debug)]
pub(super) struct Delivered {
    files: Vec<PathBuf>,
}

impl Delivered {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
                let path = entry?.path();
                let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if path.is_dir() {
                    folders.push(path);
                } else if !hidden && path.extension().is_some_and(|extension| extension == "eml") {
                    files.push(path);
                }
            }
        }
        files.sort();
        Ok(Self { files })
    }

    pub(super) fn count(&self) -> u64 {
        self.files.len() as u64
    }

    /// A file, to show where they are.
    pub(super) fn example(&self) -> Option<&Path> {
        self.files.first().map(PathBuf::as_path)
    }

    /// Every file is one rendering of a message of this mailbox, and each serial from 1 to the last sent is there once. Gives the bytes in all.
    pub(super) fn verify(&self, stand_in: &StandIn) -> anyhow::Result<u64> {
        let mut bytes_in_all = 0;
        let mut by_serial: BTreeMap<u64, Vec<&Path>> = BTreeMap::new();
        let mut faults = Vec::new();
        for file in &self.files {
            let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
            bytes_in_all += bytes.len() as u64;
            match stand_in.rendering_of(&bytes) {
                Some(rendering) if &*rendering.mailbox == MAILBOX => {
                    by_serial.entry(rendering.serial.unwrap_or(0)).or_default().push(file);
                }
                _ => faults.push(format!("{} ({} bytes) is no rendering that the server gave out", file.display(), bytes.len())),
            }
        }
        for serial in 1..=stand_in.sent() {
            match by_serial.get(&serial).map_or(&[][..], Vec::as_slice) {
                [_] => {}
                [] => faults.push(format!("message {serial} is missing")),
                several => faults.push(format!("message {serial} is there {} times", several.len())),
            }
        }
        if !faults.is_empty() {
            bail!("{} faults:\n  {}", faults.len(), faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n  "));
        }
        Ok(bytes_in_all)
    }
}
