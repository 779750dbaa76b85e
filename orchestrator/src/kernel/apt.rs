//! Debian packages of any architecture, fetched by apt with a state directory of its own.
//!
//! The host's apt supplies what only the host knows (mirrors, proxies, credentials); its package lists, dpkg
//! database, pinning and hooks are neither read nor touched. apt checks the signatures.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::KernelError;
use super::catalog::Source;
use super::tool::{APT_CACHE, APT_GET, APT_HELPER, Tool, last_words};
use crate::cache::{Cache, Kind, Progress, Workspace};

/// From Debian's package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where Debian's two archives are, as URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    main: Option<String>,
    security: Option<String>,
    keyring: Utf8PathBuf,
}

/// One of Debian's archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    Main,
    Security,
}

impl Archive {
    /// The environment variable that overrides the host's configuration.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Main => "FARM_DEBIAN_MIRROR",
            Self::Security => "FARM_DEBIAN_SECURITY_MIRROR",
        }
    }

    /// The field `Label` of the archive's Release files.
    fn label(self) -> &'static str {
        match self {
            Self::Main => "Debian",
            Self::Security => "Debian-Security",
        }
    }
}

impl Mirrors {
    /// From the environment, else from the host's own apt configuration.
    pub fn of_host(variable: impl Fn(&str) -> Option<String>) -> Result<Self, KernelError> {
        let asked = |archive: Archive| variable(archive.variable()).filter(|uri| !uri.is_empty());
        let (main, security) = (asked(Archive::Main), asked(Archive::Security));
        let listing = if main.is_some() && security.is_some() {
            String::new()
        } else {
            // ORIGIN and LABEL come from the Release files of the host's last `apt-get update`.
            let mut command = APT_GET.command()?;
            command.args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]);
            String::from_utf8_lossy(&APT_GET.stdout(&mut command)?).into_owned()
        };
        Ok(Self {
            main: main.or_else(|| mirror_in(&listing, Archive::Main)),
            security: security.or_else(|| mirror_in(&listing, Archive::Security)),
            keyring: KEYRING.into(),
        })
    }

    /// One archive for everything, signed with a key of this keyring.
    pub fn at(uri: &str, keyring: &Utf8Path) -> Self {
        let uri = Some(uri.to_owned());
        Self { main: uri.clone(), security: uri, keyring: keyring.to_owned() }
    }

    /// No archive at all, for a farm that must not fetch anything.
    pub fn none() -> Self {
        Self { main: None, security: None, keyring: KEYRING.into() }
    }

    fn uri(&self, archive: Archive) -> Result<&str, KernelError> {
        let uri = match archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        };
        let uri = uri.as_deref().ok_or(KernelError::NoMirror { variable: archive.variable() })?;
        // A blank or a line break would begin another word or field of the sources file.
        if uri.chars().all(|c| c.is_ascii_graphic()) && uri.contains(':') {
            Ok(uri)
        } else {
            Err(KernelError::BadMirror { variable: archive.variable(), uri: uri.to_owned() })
        }
    }
}

/// The first mirror of this archive in `apt-get indextargets`' lines of ORIGIN|LABEL|URI. CD-ROMs hold no
/// other architecture.
fn mirror_in(listing: &str, archive: Archive) -> Option<String> {
    listing
        .lines()
        .filter_map(|line| line.strip_prefix("Debian|")?.strip_prefix(archive.label())?.strip_prefix('|'))
        .find(|uri| !uri.starts_with("cdrom:"))
        .map(str::to_owned)
}

/// A version of a package that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) package: String,
    pub(crate) version: String,
    /// Of the .deb, as the signed index says or farm's own catalog.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    /// The names of the packages it depends on; of alternatives the first.
    pub(crate) depends: Vec<String>,
    /// Where the .deb is, if no index that apt could verify lists it.
    pub(crate) pinned_at: Option<String>,
}

/// apt with the indices of one source, brought up to date. Other farms wait until this is dropped.
pub(crate) struct Apt<'a> {
    workspace: Workspace,
    source: &'a Source,
    /// The mirror of the main archive, once the indices were fetched.
    main: String,
    /// What `apt-get update` complained about. One suite's trouble must not keep the others from use, so this
    /// is only shown when a package is missing in the end.
    complaints: String,
}

impl<'a> Apt<'a> {
    /// The private state of this source; nothing is asked of the network yet.
    pub(crate) fn open(
        cache: &Cache,
        source: &'a Source,
        architecture: &str,
        progress: Progress<'_>,
    ) -> Result<Self, KernelError> {
        let key = format!("{}-{architecture}", source.name);
        let workspace = cache.workspace(Kind::Apt, &key, progress)?;
        Ok(Self { workspace, source, main: String::new(), complaints: String::new() })
    }

    /// Fetches the indices of all suites. Those that fail are remembered as complaints.
    pub(crate) fn update(
        &mut self,
        mirrors: &Mirrors,
        architecture: &str,
        progress: Progress<'_>,
    ) -> Result<(), KernelError> {
        let sources = sources_file(self.source, mirrors, architecture)?;
        if !mirrors.keyring.is_file() {
            return Err(KernelError::NoKeyring { path: mirrors.keyring.clone() });
        }
        if !self.source.main.is_empty() {
            self.main = mirrors.uri(Archive::Main)?.trim_end_matches('/').to_owned();
        }
        let root = &self.workspace.path;
        for directory in ["lists/partial", "cache/archives/partial"] {
            make_directory(&root.join(directory))?;
        }
        write(&root.join("status"), "")?;
        write(&root.join("farm.sources"), &sources)?;
        write(&root.join("apt.conf"), &configuration(root, architecture))?;
        progress(&format!("asking Debian's archive what {} has for {architecture}", self.source.name));
        let output = APT_GET.output(self.command(APT_GET)?.args(["--quiet", "update"]))?;
        self.complaints = last_words(&output.stderr);
        if !self.complaints.is_empty() {
            tracing::warn!(
                source = self.source.name,
                complaints = self.complaints,
                "apt-get update complained"
            );
            progress(&format!(
                "not all of {} could be asked; going on with what apt has verified",
                self.source.name
            ));
        }
        Ok(())
    }

    /// The newest version of a package in the source's suites: with pinning off, apt's candidate. What no verified
    /// index lists, for a mirror can serve an index that its signature does not fit, is the version that the
    /// catalog has pinned.
    pub(crate) fn newest(&self, package: &str, progress: Progress<'_>) -> Result<Candidate, KernelError> {
        let mut command = self.command(APT_CACHE)?;
        // Its exit status only says whether there was output.
        let output = APT_CACHE.output(command.args(["show", "--no-all-versions", package]))?;
        if let Some(candidate) = parse_stanza(&String::from_utf8_lossy(&output.stdout)) {
            return Ok(candidate);
        }
        let complaints = match (self.complaints.as_str(), last_words(&output.stderr)) {
            ("", said) => said,
            (complaints, _) => complaints.to_owned(),
        };
        let pinned = self.pinned(package).ok_or_else(|| KernelError::NoPackage {
            package: package.to_owned(),
            suites: [&self.source.main[..], &self.source.security].concat().join(", "),
            complaints,
        })?;
        progress(&format!(
            "no verified index lists {package}; taking the pinned {}, by its SHA-256",
            pinned.version
        ));
        Ok(pinned)
    }

    /// The version that the catalog has pinned.
    pub(crate) fn pinned(&self, package: &str) -> Option<Candidate> {
        let pinned = self.source.pinned.iter().find(|pinned| pinned.package == package)?;
        Some(Candidate {
            package: pinned.package.clone(),
            version: pinned.version.clone(),
            sha256: pinned.sha256.clone(),
            bytes: pinned.bytes,
            depends: pinned.depends.clone(),
            pinned_at: Some(format!("{}/{}", self.main, pinned.file)),
        })
    }

    /// Downloads the .deb into a directory; apt compares it with the candidate's SHA-256.
    pub(crate) fn download(
        &self,
        candidate: &Candidate,
        into: &Utf8Path,
        progress: Progress<'_>,
    ) -> Result<Utf8PathBuf, KernelError> {
        let Candidate { package, version, bytes, .. } = candidate;
        let refused =
            |source| KernelError::Download { package: package.clone(), version: version.clone(), source };
        progress(&format!("fetching {package} {version}, {}", mebibytes(*bytes)));
        if let Some(uri) = &candidate.pinned_at {
            let deb = into.join(format!("{package}_pinned.deb"));
            let mut command = self.command(APT_HELPER)?;
            let hash = format!("SHA256:{}", candidate.sha256);
            APT_HELPER
                .stdout(command.args(["download-file", uri.as_str(), deb.as_str(), &hash]))
                .map_err(refused)?;
            return Ok(deb);
        }
        let mut command = self.command(APT_GET)?;
        command.args(["--quiet", "download", &format!("{package}={version}")]).current_dir(into);
        APT_GET.stdout(&mut command).map_err(refused)?;
        let failed = |source| KernelError::Io { path: into.to_owned(), source };
        for file in into.read_dir_utf8().map_err(failed)? {
            let path = file.map_err(failed)?.into_path();
            let name = path.file_name().unwrap_or_default();
            if name.ends_with(".deb") && name.starts_with(&format!("{package}_")) {
                return Ok(path);
            }
        }
        Err(failed(io::ErrorKind::NotFound.into()))
    }

    fn command(&self, tool: Tool) -> Result<std::process::Command, KernelError> {
        let mut command = tool.command()?;
        command.arg("-c").arg(self.workspace.path.join("apt.conf"));
        Ok(command)
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn sources_file(source: &Source, mirrors: &Mirrors, architecture: &str) -> Result<String, KernelError> {
    let mut text = String::new();
    for (archive, suites) in [(Archive::Main, &source.main), (Archive::Security, &source.security)] {
        if suites.is_empty() {
            continue;
        }
        let (uri, suites, keyring) = (mirrors.uri(archive)?, suites.join(" "), &mirrors.keyring);
        text += &format!(
            "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nArchitectures: {architecture}\n\
             Signed-By: {keyring}\n\n"
        );
    }
    Ok(text)
}

/// apt reads this after the host's configuration (apt.conf(5)): `#clear` empties lists that the host may have
/// filled. An empty dpkg status makes every package look uninstalled, which is all that a download needs.
fn configuration(root: &Utf8Path, architecture: &str) -> String {
    format!(
        r##"Dir::State "{root}";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/extended_states";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/cache/archives";
Dir::Etc::sourcelist "{root}/farm.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
"##
    )
}

/// One stanza of `apt-cache show`; nothing if a field is missing.
fn parse_stanza(text: &str) -> Option<Candidate> {
    let stanza = text.split("\n\n").next()?;
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let depends = field("Depends").unwrap_or_default();
    let first_word = |dependency: &str| dependency.split_whitespace().next().map(str::to_owned);
    Some(Candidate {
        package: field("Package")?.to_owned(),
        version: field("Version")?.to_owned(),
        sha256: field("SHA256")?.to_owned(),
        bytes: field("Size")?.parse().ok()?,
        depends: depends.split(',').filter_map(first_word).collect(),
        pinned_at: None,
    })
}

fn make_directory(path: &Utf8Path) -> Result<(), KernelError> {
    fs::create_dir_all(path).map_err(|source| KernelError::Io { path: path.to_owned(), source })
}

fn write(path: &Utf8Path, text: &str) -> Result<(), KernelError> {
    fs::write(path, text).map_err(|source| KernelError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            name: "s".into(),
            main: vec!["m".into(), "m-updates".into()],
            security: vec!["m-sec".into()],
            pinned: Vec::new(),
        }
    }

    fn mirrors(main: Option<&str>, security: Option<&str>) -> Mirrors {
        Mirrors {
            main: main.map(str::to_owned),
            security: security.map(str::to_owned),
            keyring: "/k.gpg".into(),
        }
    }

    #[test]
    fn mirrors_are_those_whose_release_files_say_debian() {
        let listing = "\
Docker|Docker CE|http://other.invalid/linux/debian/
|Debian|http://no-origin.invalid/
Debian|Debian Backports|http://backports.invalid/
Debian|Debian-Security|http://mirror.invalid/debian-security/
Debian|Debian|cdrom:[Debian]/
Debian|Debian|http://mirror.invalid/debian/
Debian|Debian|http://second.invalid/debian/
";
        assert_eq!(mirror_in(listing, Archive::Main).as_deref(), Some("http://mirror.invalid/debian/"));
        assert_eq!(
            mirror_in(listing, Archive::Security).as_deref(),
            Some("http://mirror.invalid/debian-security/")
        );
        assert_eq!(mirror_in("Ubuntu|Ubuntu|http://ubuntu.invalid/\n", Archive::Main), None);
    }

    #[test]
    fn the_environment_overrides_the_host() {
        let mirrors = Mirrors::of_host(|name| Some(format!("http://{name}.invalid/"))).unwrap();
        assert_eq!(mirrors.uri(Archive::Main).unwrap(), "http://FARM_DEBIAN_MIRROR.invalid/");
        assert_eq!(mirrors.uri(Archive::Security).unwrap(), "http://FARM_DEBIAN_SECURITY_MIRROR.invalid/");
    }

    #[test]
    fn a_missing_mirror_names_the_variable_and_only_if_it_is_needed() {
        let error = sources_file(&source(), &mirrors(Some("http://a.invalid/"), None), "s390x").unwrap_err();
        assert!(error.to_string().contains("FARM_DEBIAN_SECURITY_MIRROR"), "{error}");
        let only_main = Source { security: Vec::new(), ..source() };
        sources_file(&only_main, &mirrors(Some("http://a.invalid/"), None), "s390x").unwrap();
    }

    #[test]
    fn a_mirror_cannot_bring_in_fields_of_its_own() {
        for bad in ["http://a.invalid/\nTrusted: yes", "http://a b", "no-scheme"] {
            let error = sources_file(&source(), &mirrors(Some(bad), Some("http://s.invalid/")), "s390x");
            assert!(
                matches!(error, Err(KernelError::BadMirror { variable: "FARM_DEBIAN_MIRROR", .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn each_archive_has_its_suites_and_its_signature() {
        let mirrors = mirrors(Some("http://a.invalid/"), Some("http://s.invalid/"));
        let text = sources_file(&source(), &mirrors, "s390x").unwrap();
        insta::assert_snapshot!(text, @r"
        Types: deb
        URIs: http://a.invalid/
        Suites: m m-updates
        Components: main
        Architectures: s390x
        Signed-By: /k.gpg

        Types: deb
        URIs: http://s.invalid/
        Suites: m-sec
        Components: main
        Architectures: s390x
        Signed-By: /k.gpg
        ");
    }

    #[test]
    fn a_stanza_gives_the_first_of_each_dependencys_alternatives() {
        let text = "\
Package: linux-image-s390x
Version: 6.1.176-1
Depends: linux-image-6.1.0-50-s390x (= 6.1.176-1), kmod | module-init-tools
Size: 1480
SHA256: 00ff
Description: two
 lines

Package: linux-image-s390x
Version: 6.1.1-1
";
        let candidate = parse_stanza(text).unwrap();
        assert_eq!(candidate.version, "6.1.176-1");
        assert_eq!(candidate.depends, ["linux-image-6.1.0-50-s390x", "kmod"]);
        assert_eq!((candidate.bytes, candidate.sha256.as_str()), (1480, "00ff"));
        assert_eq!(parse_stanza("Package: x\nVersion: 1\n"), None);
        assert_eq!(parse_stanza(""), None);
    }
}
