//! A disk that forgets on a power cut what was written since its last flush: an ext4 on a loop device whose backing file lies in a FUSE file system
//! of ours. What a cut leaves of the unflushed blocks is drawn by lot, each block for itself, as disks with a cache do.
//!
//! Needs root, /dev/fuse and loop devices. The mounts are in a mount namespace of the test's own thread, so that they end with the process.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::UnshareFlags;

/// The unit that is written whole or not at all; also ext4's.
const BLOCK: usize = 4096;
const SIZE: u64 = 128 << 20;

/// What lies on a disk, by block; zeros where nothing was ever written.
pub(crate) type Blocks = HashMap<u64, Arc<[u8]>>;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) % bound
    }
}

/// Why this machine cannot play a power cut, or nothing if it can.
pub(crate) fn impossible() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        Some("it needs root")
    } else if !Path::new("/dev/fuse").exists() {
        Some("there is no /dev/fuse")
    } else if !Path::new("/dev/loop-control").exists() {
        Some("there are no loop devices")
    } else if !Path::new("/usr/sbin/mkfs.ext4").exists() {
        Some("there is no mkfs.ext4 (Debian's e2fsprogs)")
    } else {
        None
    }
}

/// From here on this thread and what it starts have mounts of their own. Once a test.
pub(crate) fn own_mounts() {
    #[expect(deprecated, reason = "its successor is for what cannot be undone, such as a table of descriptors; this is not")]
    rustix::thread::unshare(UnshareFlags::NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// An empty ext4, with the usual journal and the usual options.
pub(crate) fn formatted() -> Blocks {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
    let options = ["-q", "-F", "-b", "4096", "-N", "16384", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
    must(Command::new("/usr/sbin/mkfs.ext4").args(options).arg(&image));
    let bytes = std::fs::read(&image).unwrap();
    let written = bytes.chunks(BLOCK).zip(0..).filter(|(block, _)| block.iter().any(|byte| *byte != 0));
    written.map(|(block, number)| (number, Arc::from(block))).collect()
}

/// A disk that is running, with its file system mounted at [`Disk::path`].
pub(crate) struct Disk {
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
    mounted: [bool; 2],
}

struct Shared {
    state: Mutex<State>,
    cut: Condvar,
}

struct State {
    durable: Blocks,
    /// Every version since the last flush, oldest first.
    unflushed: BTreeMap<u64, Vec<Arc<[u8]>>>,
    /// Writes and flushes so far.
    operations: u64,
    cut_at: Option<u64>,
    random: Random,
    /// After the cut: what is left.
    left: Option<Blocks>,
    /// Waiting for an answer that never comes.
    held: Vec<Request>,
    /// Whoever waited is gone; all that comes fails.
    dead: bool,
}

impl Disk {
    /// Turns on a disk that holds `durable`; the file system recovers by its journal.
    pub(crate) fn power_on(durable: Blocks) -> Self {
        let state = State {
            durable,
            unflushed: BTreeMap::new(),
            operations: 0,
            cut_at: None,
            random: Random(0),
            left: None,
            held: Vec::new(),
            dead: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), cut: Condvar::new() });
        let folder = tempfile::tempdir().unwrap();
        for name in ["device", "files"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let device = folder.path().join("device");
        let connection = Arc::new(File::options().read(true).write(true).open("/dev/fuse").unwrap());
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", connection.as_raw_fd());
        mount("volatile", &device, "fuse", MountFlags::empty(), CString::new(options).unwrap().as_c_str()).unwrap();
        let server = Arc::clone(&shared);
        std::thread::Builder::new().name("volatile-disk".to_owned()).spawn(move || serve(&connection, &server)).unwrap();
        let mut disk = Self { shared, folder, mounted: [true, false] };
        must(Command::new("mount").args(["-t", "ext4", "-o", "loop,noatime"]).arg(device.join("disk")).arg(disk.path()));
        disk.mounted[1] = true;
        disk
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Writes and flushes so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power goes at the `operation`-th write or flush from now on, in the middle of it.
    pub(crate) fn cut_after(&self, operation: u64, random: Random) {
        let mut state = self.state();
        state.random = random;
        state.cut_at = Some(state.operations + operation.max(1));
    }

    /// The power goes now.
    pub(crate) fn cut_now(&self, random: Random) {
        let mut state = self.state();
        state.random = random;
        state.cut();
    }

    /// Waits a moment for the power to go; whether it has.
    pub(crate) fn is_cut(&self, patience: Duration) -> bool {
        let state = self.state();
        let (state, _) = self.shared.cut.wait_timeout_while(state, patience, |state| state.left.is_none()).unwrap();
        state.left.is_some()
    }

    /// What waits for the dead disk is told that it failed. Only when nobody can act on that any more.
    pub(crate) fn fail_what_waits(&self) {
        let mut state = self.state();
        state.dead = true;
        for request in state.held.drain(..) {
            request.answer(Err(EIO));
        }
    }

    /// After a cut: what the disk holds when it is turned on again.
    pub(crate) fn power_off(mut self) -> Blocks {
        let left = self.state().left.clone().unwrap();
        self.fail_what_waits();
        self.unmount();
        left
    }

    fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted[1]) {
            unmount(self.path(), UnmountFlags::empty()).unwrap();
        }
        // The loop device lets go of its file a moment after the unmount.
        if std::mem::take(&mut self.mounted[0]) {
            let device = self.folder.path().join("device");
            crate::support::wait_for("the loop device's end", Duration::from_secs(20), || unmount(&device, UnmountFlags::empty()).ok());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted[0] {
            self.fail_what_waits();
            // What cannot be unmounted ends with the process.
            let _ = unmount(self.path(), UnmountFlags::DETACH);
            let _ = unmount(self.folder.path().join("device"), UnmountFlags::DETACH);
        }
    }
}

impl State {
    fn read(&self, block: u64) -> Option<&Arc<[u8]>> {
        self.unflushed.get(&block).and_then(|versions| versions.last()).or_else(|| self.durable.get(&block))
    }

    fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut offset = usize::try_from(offset).unwrap();
        while !data.is_empty() {
            let (block, start) = ((offset / BLOCK) as u64, offset % BLOCK);
            let (now, later) = data.split_at(data.len().min(BLOCK - start));
            let mut bytes = self.read(block).map_or_else(|| vec![0; BLOCK], |bytes| bytes.to_vec());
            bytes[start..start + now.len()].copy_from_slice(now);
            self.unflushed.entry(block).or_default().push(bytes.into());
            (offset, data) = (offset + now.len(), later);
        }
    }

    fn read_range(&self, offset: u64, size: u64) -> Vec<u8> {
        let (start, end) = (offset.min(SIZE), offset.saturating_add(size).min(SIZE));
        let mut bytes = Vec::new();
        for block in start / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            bytes.extend_from_slice(self.read(block).map_or(&[0; BLOCK][..], |bytes| bytes));
        }
        let skipped = usize::try_from(start % BLOCK as u64).unwrap();
        bytes[skipped..skipped + usize::try_from(end - start).unwrap()].to_vec()
    }

    fn flush(&mut self) {
        for (block, mut versions) in std::mem::take(&mut self.unflushed) {
            self.durable.extend(versions.pop().map(|last| (block, last)));
        }
    }

    /// Whether the operation that has just come is the one at which the power goes.
    fn is_due(&mut self) -> bool {
        self.operations += 1;
        self.cut_at.is_some_and(|at| self.operations >= at)
    }

    /// Of each block not flushed either what was there before is left, or one of the versions written since. How many are lost is drawn first,
    /// so that nearly all and nearly none happen as well.
    fn cut(&mut self) {
        let mut left = self.durable.clone();
        let lost_percent = [0, 5, 50, 95, 100][self.random.below(5) as usize];
        for (block, versions) in &self.unflushed {
            if self.random.below(100) >= lost_percent {
                left.insert(*block, Arc::clone(&versions[self.random.below(versions.len() as u64) as usize]));
            }
        }
        self.left = Some(left);
    }
}

/// The kernel's requests (linux/fuse.h, protocol 7.31), by number.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;
/// Length of a request's head.
const HEAD: usize = 40;
/// The one file; the root is 1.
const FILE: u64 = 2;
const LONGEST_WRITE: u32 = 128 << 10;

/// A request that must be answered.
struct Request {
    connection: Arc<File>,
    unique: u64,
}

impl Request {
    /// Answers. The mount may have gone meanwhile, and whoever asked with it.
    fn answer(self, outcome: Result<&[u8], i32>) {
        let (error, bytes) = match outcome {
            Ok(bytes) => (0, bytes),
            Err(error) => (-error, &[][..]),
        };
        let length = u32::try_from(16 + bytes.len()).unwrap();
        let whole = [&length.to_le_bytes()[..], &error.to_le_bytes(), &self.unique.to_le_bytes(), bytes].concat();
        let _ = (&*self.connection).write(&whole);
    }
}

/// Answers the kernel until the file system is unmounted. (Numbers are the machine's own; little-endian machines only.)
fn serve(connection: &Arc<File>, shared: &Shared) {
    let mut buffer = vec![0; LONGEST_WRITE as usize + BLOCK];
    loop {
        let length = match (&**connection).read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let (head, body) = buffer[..length].split_at(HEAD);
        let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let (operation, unique, inode) = (u32::from_le_bytes(head[4..8].try_into().unwrap()), number(head, 8), number(head, 16));
        let request = Request { connection: Arc::clone(connection), unique };
        match operation {
            INIT => {
                let mut reply = [0; 64];
                reply[0..4].copy_from_slice(&7_u32.to_le_bytes());
                reply[4..8].copy_from_slice(&31_u32.to_le_bytes());
                reply[20..24].copy_from_slice(&LONGEST_WRITE.to_le_bytes());
                reply[24..28].copy_from_slice(&1_u32.to_le_bytes());
                request.answer(Ok(&reply));
            }
            LOOKUP if body == b"disk\0" => {
                let valid = [FILE, 0, 3600, 3600, 0].map(u64::to_le_bytes).concat();
                request.answer(Ok(&[valid, attributes(FILE)].concat()));
            }
            LOOKUP => request.answer(Err(ENOENT)),
            GETATTR => request.answer(Ok(&[[3600_u64, 0].map(u64::to_le_bytes).concat(), attributes(inode)].concat())),
            OPEN => request.answer(Ok(&[0; 16])),
            READ => {
                let (offset, size) = (number(body, 8), number(body, 16) & 0xffff_ffff);
                let bytes = shared.state.lock().unwrap().read_range(offset, size);
                request.answer(Ok(&bytes));
            }
            WRITE => {
                let (offset, size) = (number(body, 8), number(body, 16) & 0xffff_ffff);
                shared.operate(request, &size.to_le_bytes(), true, |state| state.write(offset, &body[40..]));
            }
            FSYNC => shared.operate(request, &[], false, State::flush),
            // close(2) promises nothing.
            FLUSH | RELEASE | DESTROY => request.answer(Ok(&[])),
            FORGET | BATCH_FORGET | INTERRUPT => {}
            _ => request.answer(Err(ENOSYS)),
        }
    }
}

/// `struct fuse_attr`.
fn attributes(inode: u64) -> Vec<u8> {
    let (mode, size): (u32, u64) = if inode == FILE { (0o100_600, SIZE) } else { (0o040_700, 0) };
    let long = [inode, size, size / 512, 0, 0, 0].map(u64::to_le_bytes).concat();
    [long, [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_le_bytes).concat()].concat()
}

impl Shared {
    /// Carries an operation out and answers it, or cuts the power in the middle of it.
    fn operate(&self, request: Request, answer: &[u8], in_part: bool, work: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        if state.dead {
            request.answer(Err(EIO));
        } else if state.left.is_some() {
            state.held.push(request);
        } else if state.is_due() {
            // A write may have come through in part; a flush has not.
            if in_part {
                work(&mut state);
            }
            state.cut();
            state.held.push(request);
            self.cut.notify_all();
        } else {
            work(&mut state);
            request.answer(Ok(answer));
        }
    }
}

fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
