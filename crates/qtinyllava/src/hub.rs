//! Names on the Hugging Face hub into directories. Only the program knows the hub: the libraries see directories.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

/// Files of a repository that a model needs, by their endings; everything else stays where it is.
const ENDINGS: &[&str] = &[".json", ".safetensors", "tokenizer.model", ".jinja"];
/// Taken only where the repository has no safetensors.
const PICKLED: &str = ".bin";

/// The directory that `model` means: itself if it is there, or else the snapshot of a hub repository `owner/name` or
/// `owner/name@revision`, downloaded into the hub's cache unless it is there already.
///
/// # Errors
///
/// If it is neither, cannot be downloaded and is not cached, with the cache directory and the cure.
pub fn directory(model: &Path) -> Result<PathBuf> {
    if model.is_dir() {
        return Ok(model.to_owned());
    }
    let shown = model.display();
    if model.exists() {
        bail!("{shown} is a file; give the model's directory, the one with config.json");
    }
    let id = model.to_str().and_then(Id::parse);
    // A slip in a path is nobody else's business.
    let beside = model.parent().filter(|folder| folder.is_dir());
    if let (Some(id), Some(folder)) = (&id, beside)
        && !shown.to_string().contains('@')
        && !folder.as_os_str().is_empty()
    {
        bail!(
            "there is a folder {} and no {shown} in it; correct the path, or give the hub's model as {shown}@{}",
            folder.display(),
            id.revision
        );
    }
    match id {
        Some(id) => Hub::from_env()?.snapshot(&id),
        None => bail!(
            "{shown} is not a directory; give a directory with config.json, or a hub id like owner/name or owner/name@revision"
        ),
    }
}

/// `owner/name@revision`.
struct Id {
    repo: String,
    revision: String,
}

impl Id {
    /// `None` for what looks more like a path.
    fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let (owner, name) = repo.split_once('/')?;
        let revision_ok = !revision.is_empty() && revision.split('/').all(plain);
        (plain(owner) && plain(name) && revision_ok).then(|| Self {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
        })
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }
}

/// Where the hub and its cache are, as the environment says.
struct Hub {
    cache: Cache,
    offline: bool,
    token: Option<String>,
    endpoint: Option<String>,
}

impl Hub {
    fn from_env() -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| {
            let value = env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let dir = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| path("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| {
                let cache = path("XDG_CACHE_HOME");
                let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
                cache.map(|cache| cache.join("huggingface").join("hub"))
            })
            .context("there is no home directory for the hub's cache; set HF_HOME")?;
        let dir = std::path::absolute(dir)?;
        let cache = Cache::new(dir);
        let flag = |name: &str| {
            set(name).is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
            })
        };
        Ok(Self {
            token: set("HF_TOKEN").or_else(|| cache.token()),
            endpoint: set("HF_ENDPOINT"),
            offline: flag("HF_HUB_OFFLINE"),
            cache,
        })
    }

    /// The directory of a snapshot.
    fn snapshot(&self, id: &Id) -> Result<PathBuf> {
        let cached = self.cached(id);
        if self.offline {
            return cached.with_context(|| {
                self.absent(id, "HF_HUB_OFFLINE is set, so nothing is downloaded")
            });
        }
        match (self.download(id), cached) {
            (Ok(dir), _) => Ok(dir),
            (Err(error), Some(dir)) => {
                tracing::warn!("{}: {error}; using the cached {}", id.repo, dir.display());
                Ok(dir)
            }
            (Err(error), None) => Err(anyhow::Error::msg(self.absent(id, &explain(&error)))),
        }
    }

    /// A snapshot that an earlier download left behind.
    fn cached(&self, id: &Id) -> Option<PathBuf> {
        let folder = self.cache.path().join(id.repo().folder_name());
        let named = fs::read_to_string(folder.join("refs").join(&id.revision));
        // A revision may be a commit itself.
        let commit = named.map_or_else(|_| id.revision.clone(), |commit| commit.trim().to_owned());
        let dir = folder.join("snapshots").join(commit);
        dir.join("config.json").is_file().then_some(dir)
    }

    /// Downloads what is not cached yet.
    fn download(&self, id: &Id) -> Result<PathBuf, ApiError> {
        let mut builder = ApiBuilder::from_cache(self.cache.clone())
            .with_token(self.token.clone())
            .with_retries(2);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let repo: ApiRepo = builder.build()?.repo(id.repo());
        let info = repo.info()?;
        let names: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
        let safe = names.iter().any(|name| name.ends_with(".safetensors"));
        for name in names.iter().filter(|name| wanted(name, safe)) {
            repo.get(name)?;
        }
        let config = repo.get("config.json")?;
        Ok(config.parent().unwrap_or(Path::new("")).to_owned())
    }

    fn absent(&self, id: &Id, why: &str) -> String {
        format!(
            "{}@{} is not in the hub's cache {}: {why}. Download it on a machine with network (huggingface-cli download {}) and \
             copy the cache here, set HF_HOME to where it is cached, or give a local directory",
            id.repo,
            id.revision,
            self.cache.path().display(),
            id.repo,
        )
    }
}

/// Whether a repository's file is needed; `safe`: it has safetensors. No name leads out of the cache.
fn wanted(name: &str, safe: bool) -> bool {
    // Other programs' versions of the weights lie in folders of these names.
    let foreign = ["onnx/", "original/", "openvino/", "coreml/"];
    let ending =
        ENDINGS.iter().any(|ending| name.ends_with(ending)) || (!safe && name.ends_with(PICKLED));
    let inside = name
        .split(['/', '\\'])
        .all(|part| !["", ".", ".."].contains(&part));
    ending && inside && !foreign.iter().any(|folder| name.starts_with(folder))
}

/// What the hub's refusals mean.
fn explain(error: &ApiError) -> String {
    let text = error.to_string();
    let hint = if text.contains("401") || text.contains("403") {
        " (the repository does not exist or is gated: accept its licence on the hub and set HF_TOKEN)"
    } else if text.contains("404") {
        " (no such repository, revision or file)"
    } else {
        ""
    };
    // Without its value: there may be a password in it.
    let proxy = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_lowercase()])
        .find(|name| env::var(name).is_ok_and(|value| !value.is_empty()));
    let way = proxy.map_or_else(String::new, |name| {
        format!(
            " (through the proxy in {name}; NO_PROXY lists the hosts that are reached without it)"
        )
    });
    format!("downloading failed: {text}{hint}{way}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_repository_stay_in_its_folder() {
        for name in ["config.json", "part/model.safetensors", "a..b.json"] {
            assert!(wanted(name, true), "{name}");
        }
        assert!(wanted("a.bin", false) && !wanted("a.bin", true));
        for name in [
            "../a.json",
            "a/../../b.json",
            "/etc/a.json",
            "a//b.json",
            "..\\a.json",
        ] {
            assert!(!wanted(name, true), "{name}");
        }
    }

    #[test]
    fn a_slip_in_a_path_does_not_leave_this_machine() {
        let error = directory(Path::new("src/no-such-model")).unwrap_err();
        assert!(error.to_string().contains("a folder src and no"), "{error}");
    }

    #[test]
    fn ids_are_told_from_paths() {
        let id = Id::parse("apple/OpenELM-270M-Instruct").unwrap();
        assert_eq!(
            (id.repo.as_str(), id.revision.as_str()),
            ("apple/OpenELM-270M-Instruct", "main")
        );
        let id = Id::parse("a/b@refs/pr/1").unwrap();
        assert_eq!(
            (id.repo.as_str(), id.revision.as_str()),
            ("a/b", "refs/pr/1")
        );
        for path in [
            "model", "./a/b", "../a", "a/b/c", "/a/b", "a/", "a/b@", "a b/c", "a/b@../x",
        ] {
            assert!(Id::parse(path).is_none(), "{path}");
        }
    }
}
