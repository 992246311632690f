//! The roster: which sites there are, and by which keys each is known. It is read again when its file changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use qtl_wire::{Key, Roster};
use serde::Deserialize;

use crate::error::TrainError;
use crate::recipe::SitesSpec;

/// A roster's file, as it was last read.
#[derive(Debug)]
pub struct RosterFile {
    path: PathBuf,
    spec: SitesSpec,
    changed: Option<SystemTime>,
    /// Names in their order, which is that of the places.
    names: Vec<String>,
    roster: Arc<Roster>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    site: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    keys: Vec<String>,
    /// So many sessions for answers at a time.
    answers: Option<usize>,
}

impl RosterFile {
    /// Reads a roster for a run of so many sites.
    ///
    /// # Errors
    ///
    /// [`TrainError::Sites`] naming the file and the site.
    pub fn open(path: &Path, spec: &SitesSpec) -> Result<Self, TrainError> {
        let mut file = Self {
            path: path.to_owned(),
            spec: spec.clone(),
            changed: None,
            names: Vec::new(),
            roster: Arc::default(),
        };
        file.read()?;
        Ok(file)
    }

    /// The sites' names, by place.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The roster as the file says now. One that cannot be used is said, and the one before stays.
    pub fn now(&mut self) -> Arc<Roster> {
        let changed = modified(&self.path);
        if changed.is_some() && changed != self.changed {
            match self.read() {
                Ok(()) => tracing::info!("{} was read again", self.path.display()),
                Err(error) => {
                    // Said once for each version of the file.
                    self.changed = changed;
                    tracing::error!("{error}; the roster before it stays in force");
                }
            }
        }
        self.roster.clone()
    }

    /// Checks that the sites are those of a run that has begun: a place is a site for good.
    pub(crate) fn goes_on(&self, names: &[String]) -> Result<(), TrainError> {
        self.follows(names, &self.names)
    }

    /// Whether sites named `now` may follow those named `before`.
    fn follows(&self, before: &[String], now: &[String]) -> Result<(), TrainError> {
        match now.starts_with(before) {
            true => Ok(()),
            false => Err(self.wrong(format!(
                "the sites so far are {before:?} in this order, and have to stay in it; one that is to be shut out keeps its entry \
                 with keys = [], and new ones come at the end"
            ))),
        }
    }

    fn wrong(&self, what: String) -> TrainError {
        TrainError::Sites {
            path: self.path.clone(),
            what,
        }
    }

    fn read(&mut self) -> Result<(), TrainError> {
        let changed = modified(&self.path);
        let bytes = fs::read(&self.path).map_err(|e| TrainError::io(&self.path, e))?;
        let text = String::from_utf8(bytes).map_err(|e| self.wrong(e.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|e| self.wrong(e.to_string()))?;
        let (mut places, mut names) = (BTreeMap::new(), Vec::new());
        let mut limits = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (place, entry) in file.site.into_iter().enumerate() {
            let Entry {
                name,
                keys,
                answers,
            } = entry;
            if name.is_empty() || !taken.insert(name.clone()) {
                return Err(self.wrong(format!("site {place}: name = {name:?} is empty or taken")));
            }
            for key in keys {
                let key: Key = key
                    .parse()
                    .map_err(|e| self.wrong(format!("site {name}: {e}")))?;
                if let Some(other) = places.insert(key, place).filter(|other| *other != place) {
                    let other = &names[other];
                    return Err(self.wrong(format!("site {name}: key {key} is {other}'s already")));
                }
            }
            limits.extend(answers.map(|most| (place, most)));
            names.push(name);
        }
        let count = self.spec.count;
        if names.len() > count || names.is_empty() {
            return Err(self.wrong(format!(
                "it names {} sites, and the recipe has sites.count = {count}; name 1 to {count}",
                names.len()
            )));
        }
        self.follows(&self.names, &names)?;
        self.roster = Arc::new(Roster {
            places,
            answers: limits,
            count,
            quorum: self.spec.quorum(),
            patience: self.spec.patience(),
        });
        (self.changed, self.names) = (changed, names);
        self.says_who_is_missing();
        Ok(())
    }

    /// Fewer sites than a step needs are no error, since more may be added; but nothing happens before.
    fn says_who_is_missing(&self) {
        let with_keys: BTreeSet<&usize> = self.roster.places.values().collect();
        let (here, quorum) = (with_keys.len(), self.roster.quorum);
        if here < quorum {
            tracing::warn!(
                "{}: {here} of {} sites have keys, and a step waits for sites.quorum = {quorum}; give the others their keys, or \
                 start again with a smaller quorum in this side's recipe",
                self.path.display(),
                self.roster.count
            );
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SitesSpec {
        toml::from_str("count = 2").unwrap()
    }

    #[test]
    fn a_roster_is_read_again_and_what_is_wrong_with_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roster.toml");
        let key = |n: u8| Key::of_public_key(&[n]);
        let write = |text: String, minute: u64| {
            fs::write(&path, text).unwrap();
            let file = fs::File::options().append(true).open(&path).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60 * minute);
            file.set_modified(time).unwrap();
        };
        let site = |name: &str, keys: &[Key]| {
            let keys: Vec<String> = keys.iter().map(|key| format!("'{key}'")).collect();
            format!("[[site]]\nname = '{name}'\nkeys = [{}]\n", keys.join(", "))
        };
        write(site("north", &[key(1), key(2)]), 1);
        let mut file = RosterFile::open(&path, &spec()).unwrap();
        let roster = file.now();
        assert_eq!(roster.places, [(key(1), 0), (key(2), 0)].into());
        assert_eq!((roster.count, roster.quorum), (2, 2));
        write(
            site("north", &[]) + &site("south", &[key(3)]) + "answers = 2",
            2,
        );
        assert_eq!(file.now().places, [(key(3), 1)].into());
        assert_eq!(file.now().answers, [(1, 2)].into());
        // What is of no use changes nothing.
        for (text, what) in [
            (site("south", &[key(3)]), "stay in it"),
            (site("north", &[]) + &site("north", &[]), "taken"),
            ("[[site]]\nname = 'a'".to_owned(), "keys"),
            (
                site("north", &[key(1)]) + &site("south", &[key(1)]),
                "already",
            ),
            (site("north", &[]).replace("[]", "['7f']"), "is no key"),
            (
                ["north", "south", "west"]
                    .map(|name| site(name, &[]))
                    .concat(),
                "sites.count = 2",
            ),
        ] {
            write(text, 3);
            let error = file.read().unwrap_err().to_string();
            assert!(
                error.contains(what) && error.contains("roster.toml"),
                "{error}"
            );
            assert_eq!(file.now().places, [(key(3), 1)].into());
        }
        assert!(file.goes_on(&["north".to_owned()]).is_ok());
        assert!(file.goes_on(&["south".to_owned()]).is_err());
    }
}
