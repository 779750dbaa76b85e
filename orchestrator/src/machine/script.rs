//! `command.sh`: the same machine for a person to start again by hand.

use super::argv::{CommandLineTooLong, Spec, Wiring, options};

/// Where a run by hand writes, beside the script: never over the results of the run that it repeats.
pub const BY_HAND: &str = "by-hand";

/// The text of a POSIX shell script that starts QEMU with `spec`, one option on each line.
///
/// `preparation` are shell commands that make the files `spec` names; [`BY_HAND`] exists by then.
pub fn script(spec: &Spec, preparation: &[String]) -> Result<String, CommandLineTooLong> {
    let directory = BY_HAND.into();
    let options = options(spec, Wiring::Files { directory })?;
    let mut text = format!(
        "#!/bin/sh\n\
         # Starts the guest of this cell again. Its console, kernel log and results go to {BY_HAND}/ beside this\n\
         # file. A guest that panics stays to be looked at, through QMP on {BY_HAND}/qmp.sock; Ctrl-C ends it.\n\
         set -eu\n\
         cd \"$(dirname \"$0\")\"\n\
         mkdir -p {BY_HAND}\n"
    );
    for command in preparation {
        text.push_str(command);
        text.push('\n');
    }
    text.push_str(&format!("exec {}", quote(spec.qemu.binary.as_str())));
    text.push_str(&lines(&options));
    text.push('\n');
    Ok(text)
}

/// What stands behind QEMU's name in a shell script that only waits for its end, whose working directory the streams go to.
pub fn unattended_options(spec: &Spec) -> Result<String, CommandLineTooLong> {
    Ok(lines(&options(spec, Wiring::Unattended { directory: "".into() })?))
}

fn lines(options: &[Vec<String>]) -> String {
    let line = |words: &Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        format!(" \\\n    {}", words.join(" "))
    };
    options.iter().map(line).collect()
}

/// A word as a POSIX shell reads it back: bare where no character has a meaning, else in single quotes.
pub fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::super::argv::tests::spec;
    use super::*;

    #[test]
    fn script_is_readable() {
        insta::assert_snapshot!(
            script(&spec(), &["cat image job.cpio > by-hand/initrd".to_owned()]).unwrap()
        );
    }

    #[test]
    fn quoting() {
        for (word, expected) in [
            ("-machine", "-machine"),
            ("a=b,c.d", "a=b,c.d"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$(rm)", "'$(rm)'"),
            ("~", "'~'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quote(word), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(words in prop::collection::vec("[^\0]{0,12}", 1..8)) {
            let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
            let command = format!("printf '%s\\0' {}", quoted.join(" "));
            let output = Command::new("sh").args(["-c", &command]).output().unwrap();
            prop_assert_eq!(output.stdout, (words.join("\0") + "\0").into_bytes());
        }
    }
}
