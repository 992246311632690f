//! Where the parameters of a module are found in a file.

use super::Checkpoint;

/// One way to turn names: the module's prefix is replaced by the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spelling {
    module: String,
    file: String,
}

/// Which names of a file belong to a module, and under which prefix.
///
/// Files spell the same parameter in several ways: bare, below the part's name in a merged file, or without a level that
/// a later version of transformers dropped. All are listed, and the one under which most parameters are found is used.
#[derive(Clone, Debug)]
pub struct KeyMap {
    spellings: Vec<Spelling>,
    /// `(name, stand-in)` in the module's own spelling: read the stand-in where the name is not in the file.
    stand_ins: Vec<(String, String)>,
    /// Starts of names, in the module's own spelling, that others own or nobody uses.
    ignored: Vec<String>,
}

/// Buffers that old files hold and every loader skips.
const BUFFERS: &[&str] = &["position_ids", "rotary_emb.inv_freq", "attention.bias"];

impl KeyMap {
    /// Names in the file equal those of the module.
    pub fn same() -> Self {
        Self {
            spellings: Vec::new(),
            stand_ins: Vec::new(),
            ignored: Vec::new(),
        }
        .or("", "")
    }

    /// The file may also write `file` where the module's names start with `module`.
    #[must_use]
    pub fn or(mut self, module: &str, file: &str) -> Self {
        self.spellings.push(Spelling {
            module: module.to_owned(),
            file: file.to_owned(),
        });
        self
    }

    /// If the file has no `name`, its `stand_in` is read instead (both as the module spells them).
    #[must_use]
    pub fn stand_in(mut self, name: &str, stand_in: &str) -> Self {
        self.stand_ins.push((name.to_owned(), stand_in.to_owned()));
        self
    }

    /// Names that start so (as the module spells them) are nobody's business.
    #[must_use]
    pub fn ignore(mut self, start: &str) -> Self {
        self.ignored.push(start.to_owned());
        self
    }

    /// A vision tower: bare, without the `vision_model.` level (transformers 5), or inside a TinyLLaVA file.
    pub(crate) fn vision_tower() -> Self {
        let map = Self::same()
            .or("", "vision_tower._vision_tower.")
            .or("vision_model.", "")
            .or("vision_model.", "vision_tower._vision_tower.");
        ["", "clip.", "dinov2."].iter().fold(map, |map, tower| {
            let unused = crate::vision::UNUSED.iter();
            unused.fold(map, |map, name| map.ignore(&format!("{tower}{name}")))
        })
    }

    /// A connector: bare or inside a TinyLLaVA file.
    pub fn connector() -> Self {
        Self::same().or("", "connector.")
    }

    /// The spelling under which most of the names are in the file (the first one of equals).
    pub(super) fn resolve(&self, names: &[&str], file: &Checkpoint) -> Resolved<'_> {
        let score = |spelling: &Spelling| {
            let found = names.iter().filter(|name| {
                let spelled = spelling.in_file(name);
                spelled.is_some_and(|name| file.contains(&name))
            });
            found.count()
        };
        let mut best = &self.spellings[0];
        for spelling in &self.spellings[1..] {
            if score(spelling) > score(best) {
                best = spelling;
            }
        }
        Resolved {
            map: self,
            spelling: best,
        }
    }
}

impl Spelling {
    fn in_file(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.module)?;
        Some(format!("{}{rest}", self.file))
    }
}

/// A key map with its spelling chosen.
pub(super) struct Resolved<'a> {
    map: &'a KeyMap,
    spelling: &'a Spelling,
}

impl Resolved<'_> {
    /// What a parameter is called in the file; a name outside the spelling keeps its own.
    pub(super) fn in_file(&self, name: &str) -> String {
        let spelled = self.spelling.in_file(name);
        spelled.unwrap_or_else(|| name.to_owned())
    }

    /// What to read for a parameter: its own entry, or the stand-in's if only that one is there.
    pub(super) fn source(&self, name: &str, file: &Checkpoint) -> String {
        let own = self.in_file(name);
        if !file.contains(&own) {
            for (missing, stand_in) in &self.map.stand_ins {
                let stand_in = self.in_file(stand_in);
                if missing == name && file.contains(&stand_in) {
                    return stand_in;
                }
            }
        }
        own
    }

    /// Names in the file that the map ignores, with the module's spelling of each; buffers left out.
    pub(super) fn ignored<'f>(&self, file: &'f Checkpoint) -> Vec<(String, &'f str)> {
        let starts: Vec<String> = self.map.ignored.iter().map(|n| self.in_file(n)).collect();
        let Spelling {
            module,
            file: prefix,
        } = self.spelling;
        file.names()
            .filter(|name| !file.is_absent(name))
            .filter(|name| starts.iter().any(|start| name.starts_with(start.as_str())))
            .filter(|name| !BUFFERS.iter().any(|buffer| name.ends_with(buffer)))
            .map(|name| match name.strip_prefix(prefix.as_str()) {
                Some(rest) => (format!("{module}{rest}"), name),
                None => (name.to_owned(), name),
            })
            .collect()
    }

    /// Names in the file that should belong to one of `wanted` but do not.
    pub(super) fn surplus<'f>(&self, wanted: &[&str], file: &'f Checkpoint) -> Vec<&'f str> {
        // A module is responsible for everything below its top-level names.
        let mut tops: Vec<String> = Vec::new();
        for name in wanted {
            let top = name.split_inclusive('.').next().unwrap_or_default();
            tops.push(self.in_file(top));
        }
        let mine = |name: &str| tops.iter().any(|top| name.starts_with(top.as_str()));
        let read: Vec<String> = wanted.iter().map(|name| self.source(name, file)).collect();
        let ignored: Vec<String> = self.map.ignored.iter().map(|n| self.in_file(n)).collect();
        file.names()
            .filter(|name| mine(name))
            .filter(|name| !read.iter().any(|read| read == name))
            .filter(|name| !ignored.iter().any(|start| name.starts_with(start.as_str())))
            .filter(|name| !BUFFERS.iter().any(|buffer| name.ends_with(buffer)))
            .filter(|name| !file.is_absent(name))
            .collect()
    }
}
