//! The deep beat: can this host still write where its guests write?
//!
//! The write goes past every cache (O_DIRECT, O_DSYNC). One that hangs cannot be cancelled, so it gets a thread of its
//! own: never tokio's pool, which would fill with the stuck. The thread ends with the agent, or when its write comes back.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::context::Context;

/// O_DIRECT wants buffer, offset and length aligned to the device's block; 4096 fits them all.
const BLOCK: usize = 4096;

/// Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct StorageProbe {
    _alive: Sender<()>,
}

/// Starts writing `file` each `interval`. Errors: no thread.
pub(crate) fn start(
    context: Arc<Context>,
    file: PathBuf,
    interval: Duration,
) -> std::io::Result<StorageProbe> {
    let (alive, gone) = channel();
    std::thread::Builder::new()
        .name("storage-beat".into())
        .stack_size(64 * 1024)
        .spawn(move || write_until(&context, &file, interval, &gone))?;
    Ok(StorageProbe { _alive: alive })
}

fn write_until(context: &Context, path: &Path, interval: Duration, gone: &Receiver<()>) {
    let mut failing = false;
    loop {
        match write_block(path, context.now_ns()) {
            Ok(()) => context.storage_written(),
            Err(error) if !failing => {
                tracing::warn!(file = %path.display(), %error, "cannot write to guests' storage");
                failing = true;
            }
            Err(_) => {}
        }
        if gone.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// One aligned block with the counter in its first bytes, through to the medium.
fn write_block(path: &Path, counter: u64) -> std::io::Result<()> {
    let mut buffer = vec![0u8; 2 * BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    let block = &mut buffer[start..start + BLOCK];
    block[..8].copy_from_slice(&counter.to_le_bytes());
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(block)
}

/// File systems in memory refuse O_DIRECT; they have no cache to go past.
fn open(path: &Path) -> std::io::Result<File> {
    let with = |flags: OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
    };
    match with(OFlags::DIRECT | OFlags::DSYNC) {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => with(OFlags::DSYNC),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reaches_the_file_and_a_missing_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("beat");
        write_block(&file, 7).unwrap();
        write_block(&file, 0x0102).unwrap();
        let read = std::fs::read(&file).unwrap();
        assert_eq!(read.len(), BLOCK);
        assert_eq!(&read[..8], &[2, 1, 0, 0, 0, 0, 0, 0]);
        assert!(write_block(&dir.path().join("no/such"), 1).is_err());
    }
}
