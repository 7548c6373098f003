//! What the commands are given: files, standard input, the clock.

use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Larger files are neither certificates nor tokens nor configurations.
const MAX_FILE: u64 = 1 << 20;

/// The content of a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let result = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
    };
    result.map(|_| bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// The value of `--token`: the token itself, `@FILE`, or `-`; without white space around it.
pub(crate) fn token(given: &str) -> Result<Vec<u8>, String> {
    let token = match given.strip_prefix('@') {
        Some(file) => read(Path::new(file))?,
        None if given == "-" => read(Path::new("-"))?,
        None => given.as_bytes().to_vec(),
    };
    Ok(token.trim_ascii().to_vec())
}

/// [`token`], for a form.
pub(crate) fn token_text(given: &str) -> Result<String, String> {
    match String::from_utf8(token(given)?) {
        Ok(token) if !token.is_empty() => Ok(token),
        // The bytes are not shown: they may be most of a token.
        _ => Err("--token: not a token: empty, or not UTF-8".into()),
    }
}

/// What a command goes by: the machine's clock, or a time that stands still.
#[derive(Clone, Copy)]
pub(crate) struct Clock(pub(crate) Option<i64>);

impl Clock {
    /// Unix time, seconds
    pub(crate) fn now(self) -> Result<i64, String> {
        if let Some(at) = self.0 {
            return Ok(at);
        }
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_secs()).ok())
            .ok_or_else(|| "the machine's clock is before 1970".into())
    }
}
