//! The scenarios that prove farm itself: each makes the kernel complain in one way.

mod soak {
    use std::time::Duration;

    use super::super::harness::{Farm, verdict};

    /// Some sixty guests, most of them for ten seconds.
    const LIMIT: Duration = Duration::from_secs(40 * 60);

    #[test]
    fn every_complaint_is_seen_on_both_kernels() {
        let farm = Farm::new();
        let run = ["run", "selftest", "--kernel", "debian-12", "--kernel", "debian-13", "--json"];
        let run = farm.finish_within(LIMIT, farm.command(&run)).json();
        let lives = run["lives"].as_array().unwrap();
        let words = |life: &serde_json::Value| {
            let kernel = life["kernel"]["name"].as_str().unwrap().to_owned();
            let (word, reason) = verdict(life);
            (life["scenario"].as_str().unwrap().to_owned(), kernel, word.to_owned(), reason.to_owned())
        };
        let failed: Vec<_> = lives.iter().map(words).filter(|(.., word, _)| word != "passed").collect();
        assert_eq!(failed, []);
        for kernel in ["debian-12", "debian-13"] {
            let of_kernel = lives.iter().filter(|life| life["kernel"]["name"] == kernel).count();
            assert!(of_kernel >= 29, "{of_kernel} scenarios on {kernel}");
        }
    }
}
