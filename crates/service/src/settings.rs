//! Settings from several places, laid over one another, with errors that say which place was wrong.
//!
//! A program's settings are one `serde` struct with a `Default`. A [`Loader`] starts from the defaults and lays further
//! layers on top in the order of the calls, the last one winning key by key: environment (`PREFIX__SECTION__KEY`), file,
//! command line. Tables are merged, everything else (arrays too) is replaced. Nothing is opened or bound here.
//!
//! Rules:
//! - A key nobody knows is an error that names the key, where it was written and the nearest known one. What is known is
//!   taken from the serialised default and from an *example* ([`Loader::example`]): a full value with every optional
//!   section and key filled in, so that `Option` fields, which serialise to nothing, are known too. An empty table in
//!   both is a map with free keys.
//! - A bad value is an error that names the key, the value, where it was written and what is wanted; a [`Secret`]'s value
//!   is not shown.
//! - Texts from the environment and the command line take the type that the default has (`true`, numbers, lists as
//!   `a,b` or in TOML).
//! - Checks beyond types use [`Loaded::refuse`], so that their errors look the same.
//!
//! ```
//! # use service::settings::{ByteSize, Loader};
//! #[derive(Default, serde::Serialize, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Storage { write_buffer_size: ByteSize }
//! #[derive(Default, serde::Serialize, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config { storage: Storage }
//!
//! let loaded = Loader::<Config>::new()
//!     .env_from("CHAINFIRE", [("CHAINFIRE__STORAGE__WRITE_BUFFER_SIZE".into(), "64MiB".into())])?
//!     .set("storage.write_buffer_size", "128MiB", "--write-buffer-size")
//!     .load()?;
//! assert_eq!(loaded.value.storage.write_buffer_size.bytes(), 128 << 20);
//! assert_eq!(loaded.origin("storage.write_buffer_size").to_string(), "from --write-buffer-size");
//! # Ok::<(), service::settings::Error>(())
//! ```

mod error;
mod file;
mod keys;
mod origin;
mod text;
mod types;

use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use error::Error;
pub use origin::Origin;
pub use types::{ByteSize, Millis, Secret};

use origin::Layer;

/// Collects layers and makes the settings of them. See the module.
#[derive(Debug)]
pub struct Loader<T> {
    defaults: Table,
    /// Every key there is, with a value of its type.
    known: Table,
    /// Lowest first.
    layers: Vec<Layer>,
    settings: PhantomData<fn() -> T>,
}

/// Finished settings that remember where each key came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub value: T,
    merged: Table,
    known: Table,
    layers: Vec<Layer>,
}

impl<T: Default + Serialize + DeserializeOwned> Default for Loader<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Default + Serialize + DeserializeOwned> Loader<T> {
    /// Starts from `T::default()`.
    ///
    /// # Panics
    ///
    /// If the default cannot be written as TOML, which is a defect of `T` that its first test shows.
    pub fn new() -> Self {
        let known = Table::try_from(T::default()).expect("settings serialise to a TOML table");
        let mut defaults = known.clone();
        // A secret serialises to a placeholder. Its default comes from `#[serde(default)]` instead.
        keys::drop_secrets(&mut defaults);
        Self {
            defaults,
            known,
            layers: Vec::new(),
            settings: PhantomData,
        }
    }

    /// Adds the keys of `example` to the known ones. Its values are never used as settings.
    ///
    /// # Panics
    ///
    /// If the example cannot be written as TOML.
    #[must_use]
    pub fn example(mut self, example: &T) -> Self {
        let example = Table::try_from(example).expect("settings serialise to a TOML table");
        keys::add_example(&mut self.known, example);
        self
    }

    /// Lays the process environment on top: `PREFIX__SECTION__KEY` sets `section.key`; case does not matter.
    pub fn env(self, prefix: &str) -> Result<Self, Error> {
        let start = format!("{prefix}__");
        let mut vars = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(&start)) else {
                continue;
            };
            let value = value.into_string().map_err(|_raw| Error::NotUnicode {
                variable: name.to_owned(),
            })?;
            vars.push((name.to_owned(), value));
        }
        self.env_from(prefix, vars)
    }

    /// Like [`Loader::env`], with the variables given.
    pub fn env_from(
        mut self,
        prefix: &str,
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let start = format!("{prefix}__");
        let mut layer = Layer::default();
        for (name, value) in vars {
            let Some(rest) = name.strip_prefix(&start) else {
                continue;
            };
            let path: Vec<&str> = rest.split("__").collect();
            if path.iter().any(|key| key.is_empty()) {
                return Err(Error::Variable {
                    variable: name.clone(),
                    prefix: prefix.to_owned(),
                });
            }
            let path = keys::match_case(&self.known, &path);
            let value = text::typed(&value, keys::find(&self.known, &path));
            layer.put(&path, value, Origin::Environment { variable: name });
        }
        self.layers.push(layer);
        Ok(self)
    }

    /// Lays a TOML file on top.
    pub fn file(self, path: &Path) -> Result<Self, Error> {
        let content = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        self.file_content(path, &content)
    }

    /// Lays a TOML file on top if there is one.
    pub fn file_if_exists(self, path: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(path) {
            Ok(content) => self.file_content(path, &content),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(self),
            Err(source) => Err(Error::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Lays TOML text on top as if it had been read from `path`.
    pub fn file_content(mut self, path: &Path, content: &str) -> Result<Self, Error> {
        self.layers.push(file::layer(path, content)?);
        Ok(self)
    }

    /// Lays one key from the command line on top. `path` is dotted (`log.level`), `flag` is what errors show
    /// (`--log-level`). A text takes the type of the default.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>, flag: &str) -> Self {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let value = match value.into() {
            Value::String(text) => text::typed(&text, keys::find(&self.known, &path)),
            value => value,
        };
        let mut layer = Layer::default();
        layer.put(
            &path,
            value,
            Origin::CommandLine {
                flag: flag.to_owned(),
            },
        );
        self.layers.push(layer);
        self
    }

    /// Like [`Loader::set`], when the flag was given.
    #[must_use]
    pub fn set_some(self, path: &str, value: Option<impl Into<Value>>, flag: &str) -> Self {
        match value {
            Some(value) => self.set(path, value, flag),
            None => self,
        }
    }

    /// Checks all keys and makes the settings.
    pub fn load(self) -> Result<Loaded<T>, Error> {
        let (loaded, wrong) = self.load_all();
        match (Error::of_all(wrong), loaded) {
            (None, Some(loaded)) => Ok(loaded),
            (Some(error), _) => Err(error),
            (None, None) => unreachable!("settings fail to load for a reason"),
        }
    }

    /// Finds everything that is wrong, so that nobody has to mend and try again key by key. The settings have the default in
    /// place of each wrong value, for checks beyond types ([`Loaded::refuse`]); there are none if that is no way out.
    pub fn load_all(self) -> (Option<Loaded<T>>, Vec<Error>) {
        let mut merged = self.defaults.clone();
        for layer in &self.layers {
            keys::merge(&mut merged, layer.table.clone());
        }
        let mut wrong = Vec::new();
        let mut usable = merged.clone();
        for layer in &self.layers {
            for key in keys::unknown(&self.known, layer) {
                keys::restore(&mut usable, &Table::new(), &key.key);
                wrong.push(Error::Unknown { key });
            }
        }
        let value = loop {
            match serde_path_to_error::deserialize(Value::Table(usable.clone())) {
                Ok(value) => break Some(value),
                Err(error) => {
                    let path = error.path().to_string();
                    let message = error.inner().message();
                    let error = error::of_value(&path, message, &usable, &self.known, &self.layers);
                    // What is missing from a section with an unknown key is that key, spelt rightly.
                    let misspelt = |wrong: &Error| error.is_missing_beside(wrong);
                    if !wrong.iter().any(misspelt) {
                        wrong.push(error);
                    }
                    if !keys::restore(&mut usable, &self.defaults, &path) {
                        break None;
                    }
                }
            }
        };
        let loaded = value.map(|value| Loaded {
            value,
            merged,
            known: self.known,
            layers: self.layers,
        });
        (loaded, wrong)
    }
}

impl<T> Loaded<T> {
    /// Where the value of a dotted key, or of the section around it, was written last.
    pub fn origin(&self, path: &str) -> Origin {
        origin::find(&self.layers, path)
    }

    /// The error for a value that has the right type and is still wrong: `expected` says what would be right.
    pub fn refuse(&self, path: &str, expected: impl Into<String>) -> Error {
        let value = error::show(path, &self.merged, &self.known);
        Error::Value {
            key: path.to_owned(),
            value,
            origin: self.origin(path),
            expected: expected.into(),
        }
    }
}

#[cfg(test)]
mod tests;
