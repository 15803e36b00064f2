//! What a sender offers: the user's header, and names and sizes of files.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};

use crate::frame::{self, Kind};

/// Bytes of a header, at most.
const HEADER_MAX: usize = 64 << 10;

/// Bytes of a name, at most: what file systems take.
const NAME_MAX: usize = 255;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The user's own.
    pub header: Bytes,
    /// In the order in which they are sent.
    pub files: Vec<Offered>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// A plain name, without directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// Whether a file may be called so: one component of a path that is not special, without anything that could end a log line.
pub(crate) fn is_good_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= NAME_MAX
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control)
}

impl Offer {
    /// As a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        frame::put(out, Kind::Offer, |out| {
            out.put_u32(u32::try_from(self.header.len()).expect("a header is short"));
            out.put_slice(&self.header);
            out.put_u32(u32::try_from(self.files.len()).expect("files are bounded"));
            for file in &self.files {
                out.put_u64(file.size);
                out.put_u8(u8::try_from(file.name.len()).expect("names of files are at most 255 bytes"));
                out.put_slice(file.name.as_bytes());
            }
        });
    }

    /// Reads the payload of one with at most `files_max` files; the error says what is wrong.
    pub fn decode(mut payload: Bytes, files_max: usize) -> Result<Offer, String> {
        let short = |_| "the offer is cut short".to_owned();
        let length = payload.try_get_u32().map_err(short)? as usize;
        if length > HEADER_MAX {
            return Err(format!(
                "a header of {length} bytes, at most {HEADER_MAX} are taken"
            ));
        }
        let header = split(&mut payload, length)?;
        let count = payload.try_get_u32().map_err(short)? as usize;
        if count > files_max {
            return Err(format!("{count} files, at most {files_max} are taken"));
        }
        let mut files = Vec::new();
        let mut names = BTreeSet::new();
        let mut total = 0u64;
        for _ in 0..count {
            let size = payload.try_get_u64().map_err(short)?;
            let length = usize::from(payload.try_get_u8().map_err(short)?);
            let name = split(&mut payload, length)?;
            let name =
                String::from_utf8(name.to_vec()).map_err(|_| "the name of a file is no UTF-8".to_owned())?;
            if !is_good_name(&name) {
                return Err(format!("{name:?} is no plain name of a file"));
            }
            if !names.insert(name.clone()) {
                return Err(format!("there are two files {name:?}"));
            }
            total = total
                .checked_add(size)
                .ok_or_else(|| "the files are larger than can be".to_owned())?;
            files.push(Offered { name, size });
        }
        if !payload.is_empty() {
            return Err("something follows the offer".to_owned());
        }
        Ok(Offer {
            // A copy, so that the list of names does not stay in memory with it.
            header: Bytes::copy_from_slice(&header),
            files,
        })
    }
}

fn split(payload: &mut Bytes, length: usize) -> Result<Bytes, String> {
    if length > payload.len() {
        return Err("the offer is cut short".to_owned());
    }
    Ok(payload.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(names: &[&str]) -> Offer {
        Offer {
            header: Bytes::from_static(b"snapshot 7"),
            files: names
                .iter()
                .map(|name| Offered {
                    name: (*name).to_owned(),
                    size: 5,
                })
                .collect(),
        }
    }

    fn payload(offer: &Offer) -> Bytes {
        let mut out = Vec::new();
        offer.put(&mut out);
        frame::take(&mut out[..].into(), 1 << 20)
            .unwrap()
            .unwrap()
            .payload
    }

    #[test]
    fn offers_are_read_as_written_and_not_when_cut() {
        let offer = offer(&["CURRENT", "000007.sst", "ä"]);
        let bytes = payload(&offer);
        assert_eq!(Offer::decode(bytes.clone(), 3), Ok(offer));
        for length in 0..bytes.len() {
            assert!(Offer::decode(bytes.slice(..length), 3).is_err());
        }
        assert!(Offer::decode(bytes, 2).unwrap_err().contains("at most 2"));
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
        ] {
            let error = Offer::decode(payload(&offer(&[name])), 9).unwrap_err();
            assert!(error.contains("no plain name"), "{name:?}: {error}");
        }
        let twice = Offer::decode(payload(&offer(&["a", "a"])), 9);
        assert!(twice.unwrap_err().contains("two files"));
        assert!(is_good_name("..a") && is_good_name(&"x".repeat(255)) && !is_good_name(&"x".repeat(256)));
    }
}
