//! The corner of XDR (RFC 4506) that libvirt's messages need. Reading is total: short or silly input is an error.

use uuid::Uuid;

/// Longest string we take; libvirt's own limit (REMOTE_STRING_MAX) is 4 MiB, names and messages are far below.
const MAX_STRING: usize = 1 << 20;

/// Input that ends early or says impossible things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed XDR at byte {0}")]
pub struct XdrError(usize);

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn i32(self, value: i32) -> Self {
        self.u32(value as u32)
    }

    pub fn string(mut self, text: &str) -> Self {
        self = self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
        let padded = self.0.len().next_multiple_of(4);
        self.0.resize(padded, 0);
        self
    }

    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.0.extend_from_slice(uuid.as_bytes());
        self
    }
}

/// Reads values one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let end = self.at.checked_add(length).ok_or(XdrError(self.at))?;
        let taken = self.all.get(self.at..end).ok_or(XdrError(self.at))?;
        self.at = end;
        Ok(taken)
    }

    pub fn u32(&mut self) -> Result<u32, XdrError> {
        let at = self.at;
        let bytes = self.take(4)?.try_into().map_err(|_| XdrError(at))?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub fn i32(&mut self) -> Result<i32, XdrError> {
        Ok(self.u32()? as i32)
    }

    pub fn string(&mut self) -> Result<String, XdrError> {
        let at = self.at;
        let length = self.u32()? as usize;
        if length > MAX_STRING {
            return Err(XdrError(at));
        }
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(length.next_multiple_of(4) - length)?;
        Ok(text)
    }

    pub fn uuid(&mut self) -> Result<Uuid, XdrError> {
        let at = self.at;
        Uuid::from_slice(self.take(16)?).map_err(|_| XdrError(at))
    }

    /// A length or a pointer's flag, at most `most`.
    pub fn count(&mut self, most: u32) -> Result<u32, XdrError> {
        let at = self.at;
        let count = self.u32()?;
        if count > most { Err(XdrError(at)) } else { Ok(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_padded_to_four() {
        let bytes = Writer::default().string("hello").i32(-1).uuid(Uuid::from_u128(7)).0;
        assert_eq!(&bytes[..12], b"\0\0\0\x05hello\0\0\0");
        let mut r = Reader::new(&bytes);
        assert_eq!(r.string().unwrap(), "hello");
        assert_eq!(r.i32().unwrap(), -1);
        assert_eq!(r.uuid().unwrap(), Uuid::from_u128(7));
        assert!(r.u32().is_err());
    }

    #[test]
    fn impossible_lengths_are_errors() {
        assert!(Reader::new(&[0xff; 8]).string().is_err());
        assert!(Reader::new(b"\0\0\0\x09abc").string().is_err());
        assert!(Reader::new(b"\0\0\0\x09").count(8).is_err());
    }
}
