use super::*;
use crate::detect::Hit;
use crate::plan::CalibrationRecord;
use crate::recheck::tests::{life, run};
use crate::report::run_text;
use crate::verdict::Ending;

/// A cell's id by its column, counted from 1.
fn cell(number: usize) -> String {
    format!("{number:016}")
}

/// A life of that column: its verdict and the standings of its hits.
fn lived(column: usize, number: u32, verdict: Verdict, standings: &[Standing]) -> LifeRecord {
    let hit = Hit::hang("sink");
    let hits = vec![&hit; standings.len()];
    let mut life = life(&cell(column), number, verdict, Ending::JobDone, &hits);
    for (hit, standing) in life.hits.iter_mut().zip(standings) {
        hit.judged.standing = standing.clone();
    }
    life
}

/// A run of one row: hits are foreseen without a fix and with all but the second.
fn one_row(lives: Vec<LifeRecord>) -> StoredRun {
    use Sight::{Clean, Hit};
    let fixes = [None, Some(Fix::Splice), Some(Fix::Vmsplice), Some(Fix::Zerocopy), Some(Fix::Dio)];
    let columns = fixes.into_iter().zip([Hit, Clean, Hit, Hit, Hit]).enumerate();
    let column = |(index, (fix, foreseen))| {
        let cell = cell(index + 1).parse().unwrap();
        CalibrationColumn { fix, cell, foreseen }
    };
    let row = CalibrationRow {
        label: "tcp".to_owned(),
        kernel: "debian-12".to_owned(),
        columns: columns.map(column).collect(),
    };
    let mut run = run(lives);
    run.record.recheck = None;
    run.record.calibration = Some(CalibrationRecord { rows: vec![row] });
    run
}

fn expected(column: usize) -> LifeRecord {
    lived(column, 1, Verdict::Passed, &[Standing::Expected])
}

fn clean(column: usize, verdict: Verdict) -> LifeRecord {
    lived(column, 1, verdict, &[])
}

/// The table, and what is said under it of the whole.
fn told(lives: Vec<LifeRecord>) -> String {
    let text = run_text(&one_row(lives));
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let said = paragraphs.iter().find(|text| text.contains("alibrat")).unwrap();
    format!("{}\n{said}", paragraphs[0])
}

#[test]
fn what_is_as_foreseen_is_said_plainly() {
    let lives = vec![expected(1), clean(2, Verdict::Passed), expected(3), expected(4), expected(5)];
    insta::assert_snapshot!(told(lives), @r"
    scenario  kernel     none  splice  vmsplice  zerocopy  dio
    tcp       debian-12  hit   clean   hit       hit       hit
    calibration: all 5 cells are as their scenarios say
    ");
}

#[test]
fn what_is_not_as_foreseen_is_marked() {
    let known = Standing::Known { reason: "old".to_owned() };
    let lives = vec![
        // A hit that must not stay away did.
        clean(1, Verdict::Missed),
        // One that must came.
        lived(2, 1, Verdict::Hit, &[Standing::New]),
        // What is known is nobody's affair, but something else went wrong.
        lived(3, 1, Verdict::TimedOut, std::slice::from_ref(&known)),
        expected(4),
        lived(4, 2, Verdict::Missed, &[known]),
        // Another hit beside the expected one.
        lived(5, 1, Verdict::Hit, &[Standing::Expected, Standing::New]),
    ];
    insta::assert_snapshot!(told(lives), @r"
    scenario  kernel     none     splice  vmsplice     zerocopy          dio
    tcp       debian-12  clean !  hit !   timed-out !  hit 1, clean 1 !  hit !
    NOT calibrated: 5 of 5 cells, marked !, are not as their scenarios say
    ");
}

#[test]
fn what_did_not_run_is_no_contradiction_and_no_proof() {
    let lives = vec![expected(1), clean(2, Verdict::Skipped), clean(3, Verdict::Skipped)];
    insta::assert_snapshot!(told(lives), @r"
    scenario  kernel     none  splice   vmsplice  zerocopy   dio
    tcp       debian-12  hit   skipped  skipped   not begun  not begun
    calibration: 1 of 5 cells are as their scenarios say
    4 of 5 cells did not run
    ");
}

#[test]
fn a_run_of_another_kind_calibrates_nothing() {
    let mut run = one_row(vec![expected(1)]);
    run.record.calibration = None;
    assert_eq!(calibration(&run), []);
    assert!(!run_text(&run).contains("alibrat"));
}

#[test]
fn lives_that_recheck_a_hit_are_no_lives_of_a_column() {
    use crate::plan::Setting;
    use crate::store::RecheckOf;
    let mut again = clean(1, Verdict::Missed);
    again.recheck_of = Some(RecheckOf { life: again.life, setting: Setting::Same });
    let rows = calibration(&one_row(vec![expected(1), again]));
    let column = &rows[0].columns[0];
    assert_eq!((&column.shown[..], column.agrees), (&[(Shown::Hit, 1)][..], Agreement::Yes));
}
