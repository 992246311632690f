//! Who trains in a demo: one client, or several sites with their roster.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qtl_train::{Recipe, files};
use qtl_wire::certs::{Role, leaf_key, throw_away};

/// The demo's clients.
pub struct Clients {
    names: Vec<String>,
    sites: bool,
}

impl Clients {
    /// One, or as many as the recipe has sites.
    pub fn of(recipe: &Recipe) -> Self {
        let sites = recipe.sites.as_ref().map(|sites| sites.count);
        Self {
            names: match sites {
                None => vec!["client".to_owned()],
                Some(count) => (1..=count).map(|n| format!("site-{n}")).collect(),
            },
            sites: sites.is_some(),
        }
    }

    /// What they are called, which is also the name of a client's run directory and of its kit.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many sites the scenes are shared out to.
    pub fn sites(&self) -> usize {
        match self.sites {
            true => self.names.len(),
            false => 0,
        }
    }

    /// The conversations that a client has, in the folder of the training scenes.
    pub fn data(&self, place: usize) -> String {
        match self.sites {
            true => format!("{}.json", self.names[place]),
            false => "llava.json".to_owned(),
        }
    }

    /// The server's list of sites.
    pub fn roster(&self, out: &Path) -> Option<PathBuf> {
        self.sites.then(|| out.join("roster.toml"))
    }

    /// Makes the kits of all sides, and the roster.
    pub fn certify(&self, out: &Path) -> Result<()> {
        let kits = out.join("certs");
        if self.names.iter().any(|name| !kits.join(name).exists()) {
            // What an interrupted demo may have left of them: nobody has shown any to a server yet.
            if kits.exists() {
                fs::remove_dir_all(&kits).with_context(|| kits.display().to_string())?;
            }
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            throw_away(&kits, &names)?;
        }
        let Some(path) = self.roster(out) else {
            return Ok(());
        };
        let mut roster = String::new();
        for name in &self.names {
            let key = leaf_key(&kits.join(name).join(Role::Client.certificate()))?;
            writeln!(roster, "[[site]]\nname = \"{name}\"\nkeys = [\"{key}\"]")?;
        }
        files::replace(&path, roster.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
