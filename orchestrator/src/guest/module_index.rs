//! What depmod and the kernel's build say of modules: where they are, which are built in, what must be loaded
//! first.

use std::collections::{BTreeMap, BTreeSet};

/// A kernel's modules by name. In names `-` and `_` mean the same, as for modprobe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModuleIndex {
    modules: BTreeMap<String, Module>,
    built_in: BTreeSet<String>,
    /// Exact aliases only: names by which modules ask for each other.
    aliases: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    /// From the directory of modules.dep.
    path: String,
    /// The paths' names of all modules that this one needs, the deepest last.
    needs: Vec<String>,
    /// What should be there first, though no symbol demands it: names or aliases.
    soft_needs: Vec<String>,
}

/// The texts of modules.dep, modules.builtin, modules.softdep and modules.alias (modules.dep(5),
/// modprobe.d(5)).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IndexTexts<'a> {
    pub(crate) dep: &'a str,
    pub(crate) builtin: &'a str,
    pub(crate) softdep: &'a str,
    pub(crate) alias: &'a str,
}

impl ModuleIndex {
    pub(crate) fn parse(texts: IndexTexts<'_>) -> Self {
        let mut index = Self::default();
        for (path, needs) in texts.dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(module_name).collect();
            index
                .modules
                .insert(module_name(path), Module { path: path.to_owned(), needs, soft_needs: Vec::new() });
        }
        index.built_in = texts.builtin.lines().map(module_name).collect();
        for words in texts.softdep.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let ["softdep", name, rest @ ..] = &words[..] else { continue };
            let Some(module) = index.modules.get_mut(&module_name(name)) else { continue };
            let before =
                rest.iter().skip_while(|word| **word != "pre:").skip(1).take_while(|word| **word != "post:");
            module.soft_needs.extend(before.map(|word| (*word).to_owned()));
        }
        for line in texts.alias.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(alias), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if !alias.contains(['*', '?', '[']) {
                index.aliases.entry(normal(alias)).or_default().push(normal(name));
            }
        }
        index
    }

    /// The paths of the modules to load for `name`, in order, itself last. Empty if it is built in, nothing
    /// if the kernel does not have it.
    pub(crate) fn load_order(&self, name: &str) -> Option<Vec<&str>> {
        let name = normal(name);
        if self.built_in.contains(&name) {
            return Some(Vec::new());
        }
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        self.visit(&name, &mut seen, &mut order);
        (!order.is_empty()).then_some(order)
    }

    fn visit<'a>(&'a self, name: &str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<&'a str>) {
        let Some((name, module)) = self.modules.get_key_value(name) else { return };
        if !seen.insert(name) {
            return;
        }
        for soft in &module.soft_needs {
            self.visit(&self.provider(soft), seen, order);
        }
        for need in module.needs.iter().rev() {
            self.visit(need, seen, order);
        }
        order.push(&module.path);
    }

    /// The module that answers to a soft dependency. Of several the generic one: it loads on every machine,
    /// where one for a CPU feature may refuse.
    fn provider(&self, name: &str) -> String {
        let name = normal(name);
        let candidates = self.aliases.get(&name).map(Vec::as_slice).unwrap_or_default();
        let generic = candidates.iter().find(|module| module.ends_with("_generic"));
        match generic.or(candidates.first()) {
            Some(module) if !self.modules.contains_key(&name) => module.clone(),
            _ => name,
        }
    }
}

/// The file name of a module without its compression: `dm-mod.ko` of `kernel/drivers/md/dm-mod.ko.xz`.
pub(crate) fn module_file(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem);
    format!("{stem}.ko")
}

fn module_name(path: &str) -> String {
    normal(module_file(path).trim_end_matches(".ko"))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as depmod writes them for Debian's 6.12.
    fn index() -> ModuleIndex {
        ModuleIndex::parse(IndexTexts {
            dep: "\
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/arch/s390/crypto/crc32c-vx.ko.xz:
kernel/drivers/md/dm-thin-pool.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-mod.ko:
",
            builtin: "kernel/drivers/char/virtio_console.ko\n",
            softdep: "# a comment\nsoftdep ext4 pre: crypto-crc32c post: other\nsoftdep jbd2 pre: crypto-crc32c\n",
            alias: "\
alias fs-ext4 ext4
alias crypto-crc32c crc32c-vx
alias crypto-crc32c crc32c_generic
alias crypto-* wildcard
",
        })
    }

    #[test]
    fn the_load_order_puts_first_what_is_needed_hard_or_soft() {
        let table: [(&str, Option<&[&str]>); 5] = [
            (
                "ext4",
                Some(&[
                    "kernel/crypto/crc32c_generic.ko.xz",
                    "kernel/fs/jbd2/jbd2.ko.xz",
                    "kernel/fs/mbcache.ko.xz",
                    "kernel/lib/crc16.ko.xz",
                    "kernel/fs/ext4/ext4.ko.xz",
                ]),
            ),
            ("virtio-console", Some(&[])),
            ("mbcache", Some(&["kernel/fs/mbcache.ko.xz"])),
            (
                "dm_thin_pool",
                Some(&[
                    "kernel/drivers/md/dm-mod.ko",
                    "kernel/drivers/md/dm-bufio.ko",
                    "kernel/drivers/md/dm-thin-pool.ko",
                ]),
            ),
            ("absent", None),
        ];
        let index = index();
        for (name, expected) in table {
            assert_eq!(index.load_order(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_circle_of_soft_dependencies_ends() {
        let index = ModuleIndex::parse(IndexTexts {
            dep: "a.ko:\nb.ko:\n",
            softdep: "softdep a pre: b\nsoftdep b pre: a\n",
            ..IndexTexts::default()
        });
        assert_eq!(index.load_order("a").unwrap(), ["b.ko", "a.ko"]);
    }

    #[test]
    fn a_module_keeps_its_file_name_without_compression() {
        for (path, file) in [("k/dm-mod.ko.xz", "dm-mod.ko"), ("a.ko", "a.ko"), ("k/z.ko.zst", "z.ko")] {
            assert_eq!(module_file(path), file);
        }
    }
}
