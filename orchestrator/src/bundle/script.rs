//! `run.sh`: the hit again, by a POSIX shell, coreutils and QEMU.

use std::time::Duration;

use super::manifest::Console;
use super::sign::{Pattern, REACH, Sign};
use super::{IMAGE, JOB};
use crate::detect::report_openings;
use crate::plan::Cell;

/// What the script is made of.
#[derive(Debug)]
pub struct Script<'a> {
    pub title: &'a str,
    pub sign: &'a Sign,
    /// QEMU's, as the shell takes them: of a guest in whose directory the script stands, and the bundle two above.
    pub options: &'a str,
    /// Makes disks and share in that directory.
    pub preparation: &'a [String],
    /// As QEMU's `--version` has it in its first line.
    pub qemu: &'a str,
    pub limits: ScriptLimits,
    pub exact: Exact<'a>,
}

/// Whether each life of the cell says the same.
#[derive(Debug, Clone, Copy)]
pub enum Exact<'a> {
    No,
    /// It should, and what it says is not known.
    Unknown,
    Known(&'a Console),
}

/// In whole seconds.
#[derive(Debug, Clone, Copy)]
pub struct ScriptLimits {
    /// From QEMU's start to init's first word.
    pub boot: u64,
    /// Of silence behind that.
    pub silence: u64,
    /// Of all of it.
    pub whole: u64,
}

/// `boot` is the runner's limit; `slack` what a step may take beyond its own.
pub fn limits_of(cell: &Cell, boot: Duration, slack: Duration) -> ScriptLimits {
    let silence = cell.scenario.heartbeat.0;
    let steps: Duration = cell.steps.iter().map(|step| step.limit + slack).sum();
    let seconds = |time: Duration| time.as_secs() + 1;
    ScriptLimits { boot: seconds(boot), silence: seconds(silence), whole: seconds(boot + silence + steps) }
}

/// The script's text.
pub fn run_script(script: &Script<'_>) -> String {
    let Script { title, sign, options, preparation, qemu, limits, exact } = script;
    let preparation: String =
        preparation.iter().map(|command| format!("    {command} || return 2\n")).collect();
    let ScriptLimits { boot, silence, whole } = limits;
    format!(
        r#"#!/bin/sh
# Shows this hit again: {title}
# It needs QEMU for s390x, coreutils and a shell; no network, and no rights but to write here. README.md says more.
set -u
LC_ALL=C
export LC_ALL

usage() {{
    echo "usage: ./run.sh [--repeat N | --gdb]"
    echo "Boots the guest of this bundle in QEMU, and says whether the hit comes: {title}"
    echo "With --gdb the guest waits for gdb at the socket gdb.sock, as README.md says, and may take all its time."
    echo "QEMU=PROGRAM names another QEMU than qemu-system-s390x on PATH, QEMU_DATA=DIR where its firmware is."
    echo "Exit status: 0 the same hit came (in any life), 1 it did not, 2 wrong usage, no QEMU, or trouble of this host."
}}

trouble() {{
    echo "run.sh: $1" >&2
    exit 2
}}

repeat=1 gdb=
case $#,${{1-}} in
    0,) ;;
    1,-h | 1,--help) usage; exit 0 ;;
    1,--gdb) gdb=yes ;;
    2,--repeat) repeat=$2 ;;
    *) usage >&2; exit 2 ;;
esac
case $repeat in
    '' | *[!0-9]* | 0* | ??????*) trouble "--repeat takes a number from 1 to 99999, not '$repeat'" ;;
esac

QEMU=${{QEMU:-qemu-system-s390x}}
case $QEMU in
    /*) ;;
    */*) QEMU=$PWD/$QEMU ;;
esac
case ${{QEMU_DATA:-/}} in
    /*) ;;
    *) QEMU_DATA=$PWD/$QEMU_DATA ;;
esac
command -v "$QEMU" > /dev/null || trouble "there is no $QEMU; install QEMU for s390x, or name it by QEMU=PROGRAM"
cd "$(dirname "$0")" || trouble "cannot go to the directory of $0"
here=$PWD

# The first line alone.
version=$("$QEMU" --version) || trouble "$QEMU --version fails"
read -r version <<END
$version
END
expected={qemu}
same_qemu=yes
case $version in
    *" version $expected") ;;
    *)
        same_qemu=no
        echo "this is another QEMU: $version"
        echo "the hit was seen with QEMU $expected"
        ;;
esac

# QEMU, with this directory's files.
start_qemu() {{
    exec "$QEMU" ${{QEMU_DATA:+-L "$QEMU_DATA"}} ${{gdb:+-gdb unix:../../gdb.sock,server=on,wait=off -S}}{options}
}}

# Whether there is room for more. Where there is none QEMU drops what the guest says, which would look like silence.
has_room() {{
    head -c 65536 /dev/zero > room && rm room
}} 2> /dev/null

no_room() {{
    rm -rf room initrd disk?.raw share
    echo "run.sh: cannot write to $here/runs/$number: free space, or unpack the bundle elsewhere" >&2
}}

prepare() {{
    cat ../../{IMAGE} ../../{JOB} > initrd || return 2
{preparation}}}

end_guest() {{
    if [ -s pid ]; then
        kill -KILL "$(cat pid)" 2> /dev/null
    fi
}}
trap 'end_guest; exit 2' HUP INT TERM

# Until the guest is off, panics, falls silent or takes too long; QEMU may die, too. Leaves how it ended in $ended.
wait_for_guest() {{
    began=$(date +%s)
    heard=$began size=0 off_since= ended=
    until [ -s status ]; do
        sleep 1
        if ! has_room; then
            end_guest
            wait
            ended=full
            return
        fi
        now=$(date +%s)
        new=$(($(wc -c < results.log)))
        if [ "$new" -ne "$size" ]; then
            size=$new heard=$now
        fi
        # The guest says of its last word that it is. QEMU may lock up while it goes off.
        case $(tail -c 200 results.log) in
            *'"type":"end"'*)
                off_since=${{off_since:-$now}}
                if [ $((now - off_since)) -gt 10 ]; then
                    ended=off
                fi
                ;;
        esac
        if [ -n "$gdb" ]; then
            continue
        elif [ $((now - began)) -gt {whole} ]; then
            ended=late
        elif [ "$size" -gt 0 ] && [ $((now - heard)) -gt {silence} ]; then
            ended=silent
        elif [ "$size" -eq 0 ] && [ $((now - began)) -gt {boot} ]; then
            ended=unborn
        fi
        if [ -n "$ended" ] && ! [ -s status ]; then
            end_guest
            wait
            return
        fi
    done
    wait
    has_room || {{ ended=full; return; }}
    case $(cat status) in
        0) ended=off ;;
        1) ended=panic ;;
        *) ended=died ;;
    esac
}}

# Whether a log has the hit's own lines.
{shows}
# Whether a log has any line that opens a report; $complaint is the first.
complains() {{
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
{openings}
                complaint=$line
                return 0
                ;;
        esac
    done < "$1"
    return 1
}}

{judge}
{console}
# One life of the guest, in a directory of its own. Says what it came to; its status is that of the script.
live() {{
    mkdir -p "$here/runs" || return 2
    number=1
    until mkdir "$here/runs/$number" 2> /dev/null; do
        if ! [ -e "$here/runs/$number" ]; then
            echo "run.sh: cannot make $here/runs/$number" >&2
            return 2
        fi
        number=$((number + 1))
    done
    cd "$here/runs/$number" || return 2
    prepare || {{ no_room; return 2; }}
    : > console.log
    : > kmsg.log
    : > results.log
    (
        start_qemu < /dev/null > qemu.log 2>&1 &
        echo $! > pid || kill -KILL $!
        wait $!
        echo $? > status
    ) 2> /dev/null &
    if [ -n "$gdb" ]; then
        until [ -S ../../gdb.sock ] || [ -s status ]; do
            sleep 1
        done
        echo "the guest waits for gdb at $here/gdb.sock" >&2
    fi
    wait_for_guest
    if [ "$ended" = full ]; then
        no_room
        return 2
    fi
    # They are as large as the guest, and made anew for each.
    rm -rf initrd disk?.raw share ../../gdb.sock
    if [ "$ended" = died ] || {{ [ "$ended" = panic ] && ! [ -s console.log ]; }}; then
        echo "run.sh: QEMU itself failed, with status $(cat status):" >&2
        cat qemu.log >&2
        return 2
    fi
    judge
    verdict=$?
    compare_console
    return $verdict
}}

life=0 same=0
while [ "$life" -lt "$repeat" ]; do
    life=$((life + 1))
    live
    case $? in
        0) same=$((same + 1)) ;;
        2) exit 2 ;;
    esac
done
if [ "$repeat" -gt 1 ]; then
    echo "same hit: $same of $repeat"
fi
[ "$same" -gt 0 ]
"#,
        title = title.replace(['"', '$', '`', '\\', '\n'], "."),
        qemu = crate::machine::quote(qemu),
        shows = shows(sign),
        openings = openings(),
        judge = judge(sign),
        console = compare_console(exact),
    )
}

/// A shell function.
fn shows(sign: &Sign) -> String {
    let (opening, then) = match sign {
        Sign::Log { opening, then } => (opening, then.as_ref()),
        Sign::Results(pattern) => (pattern, None),
        Sign::Silence | Sign::SilentPanic => return "# No line tells of it.\n".to_owned(),
    };
    let opening = opening.for_case();
    let found = match then {
        None => format!("            {opening}) return 0 ;;\n        esac\n"),
        Some(then) => format!(
            "            {opening}) left={REACH} ;;
        esac
        if [ \"$left\" -gt 0 ]; then
            left=$((left - 1))
            case $line in
                {}) return 0 ;;
            esac
        fi
",
            then.for_case()
        ),
    };
    format!(
        "shows() {{
    left=0
    while IFS= read -r line || [ -n \"$line\" ]; do
        case $line in
{found}    done < \"$1\"
    return 1
}}
"
    )
}

/// The patterns of a `case`.
fn openings() -> String {
    let mut patterns: Vec<String> = Vec::new();
    for words in report_openings() {
        let pattern = format!("            {}", Pattern::of_words(&words).for_case());
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    patterns.join(" | \\\n") + ")"
}

fn judge(sign: &Sign) -> String {
    let same = match sign {
        Sign::Log { .. } => "shows console.log || shows kmsg.log",
        Sign::Results(_) => "shows results.log",
        Sign::Silence => "[ \"$ended\" = silent ]",
        Sign::SilentPanic => "[ \"$ended\" = panic ] && ! complains console.log && ! complains kmsg.log",
    };
    format!(
        r#"# What the life came to.
judge() {{
    if {same}; then
        echo "same hit (the guest's words are in runs/$number)"
        return 0
    fi
    complaint=
    if complains console.log || complains kmsg.log; then
        printf 'another complaint: '
        printf '%s' "$complaint" | tr -cd '[:print:]'
        echo " (runs/$number)"
        return 1
    fi
    case $ended in
        off) echo "clean (runs/$number)" ;;
        panic) echo "another complaint: QEMU ended with status $(cat status) and no word of the kernel (runs/$number)" ;;
        silent) echo "another complaint: the guest fell silent (runs/$number)" ;;
        unborn) echo "another complaint: the guest did not boot in time (runs/$number)" ;;
        late) echo "another complaint: the guest took too long (runs/$number)" ;;
    esac
    return 1
}}
"#
    )
}

/// A shell function.
fn compare_console(exact: &Exact<'_>) -> String {
    let Console { bytes, sha256, whole } = match exact {
        Exact::No => {
            return "# Of this cell no two lives are alike.\ncompare_console() {\n    :\n}\n".to_owned();
        }
        Exact::Unknown => {
            return "compare_console() {\n    echo \"console: what it should be is not known\"\n}\n"
                .to_owned();
        }
        Exact::Known(console) => console,
    };
    let length =
        if *whole { format!(" && [ $(($(wc -c < console.log))) -eq {bytes} ]") } else { String::new() };
    format!(
        r#"# Each life of this cell says the same in the same QEMU: {bytes} bytes, of which this is the SHA-256.
compare_console() {{
    sum=$(head -c {bytes} console.log | sha256sum | cut -d ' ' -f 1)
    if [ "$sum" = {sha256} ]{length}; then
        echo "console: the same to the byte"
    elif [ "$same_qemu" = no ]; then
        echo "console: another than it was, as another QEMU's is"
    else
        echo "console: another than it was"
    fi
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;
    use crate::bundle::RUN;

    fn script(sign: &Sign, exact: Exact<'_>) -> String {
        run_script(&Script {
            title: "WARNING in `f`",
            sign,
            options: " \\\n    -machine s390-ccw-virtio",
            preparation: &["truncate -s 16M disk0.raw".to_owned()],
            qemu: "10.0.2 (Debian 1:10.0.2)",
            limits: ScriptLimits { boot: 121, silence: 31, whole: 300 },
            exact,
        })
    }

    /// From another directory than the bundle's.
    #[test]
    fn qemu_and_its_firmware_may_be_named_by_relative_paths() {
        let place = tempfile::tempdir().unwrap();
        let bundle = place.path().join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        for (name, text) in [(IMAGE, ""), (JOB, ""), (RUN, &script(&Sign::Silence, Exact::No))] {
            std::fs::write(bundle.join(name), text).unwrap();
        }
        let qemu = "#!/bin/sh\ncase $1 in --version) echo QEMU ;; *) echo \"$2\"; exit 3 ;; esac\n";
        std::fs::write(place.path().join("qemu"), qemu).unwrap();
        std::fs::set_permissions(place.path().join("qemu"), Permissions::from_mode(0o755)).unwrap();
        for (data, wanted) in [("fw", place.path().join("fw")), ("/fw", "/fw".into())] {
            let mut command = Command::new("sh");
            command.current_dir(place.path()).args(["bundle/run.sh"]);
            let output = command.env("QEMU", "./qemu").env("QEMU_DATA", data).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.ends_with(&format!("\n{}\n", wanted.display())), "{stderr}");
        }
    }

    fn log() -> Sign {
        let then = Some(Pattern::of_words(&["(f+0x"]));
        Sign::Log { opening: Pattern::of_words(&["Unable to handle kernel ", " it's"]), then }
    }

    #[test]
    fn the_script_is_readable() {
        let console = Console { bytes: 4711, sha256: "ab".repeat(32), whole: true };
        insta::assert_snapshot!(script(&log(), Exact::Known(&console)));
    }

    #[test]
    fn a_shell_understands_all_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.sh");
        let line = Sign::Results(Pattern::of_words(&["# farm-data ", "path=a"]));
        for sign in [log(), line, Sign::Silence, Sign::SilentPanic] {
            for exact in [Exact::No, Exact::Unknown] {
                std::fs::write(&path, script(&sign, exact)).unwrap();
                assert!(Command::new("sh").arg("-n").arg(&path).status().unwrap().success());
            }
        }
        let said = |arguments: &[&str]| {
            let output =
                Command::new("sh").arg(&path).args(arguments).env("QEMU", "/nowhere/qemu").output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        for (arguments, words) in [
            (&["--repeat", "0"][..], "not '0'"),
            (&["--repeat", "1x"], "not '1x'"),
            (&["--repeat"], "usage:"),
            (&["now"], "usage:"),
            (&[], "there is no /nowhere/qemu"),
        ] {
            let (code, stderr) = said(arguments);
            assert!(code == Some(2) && stderr.contains(words), "{code:?} {stderr}");
        }
    }
}
