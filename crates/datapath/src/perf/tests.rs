use super::*;
use parking_lot::Mutex;
use std::sync::Arc;

fn turn(cycles: u64, packets: u64) -> Turns {
    let busy_cycles = if packets > 0 { cycles } else { 0 };
    Turns { count: 1, cycles, busy_cycles, packets, batches: packets.min(1), ..Turns::default() }
}

fn missed(missed: u64) -> Upcalls {
    Upcalls { missed, ..Upcalls::default() }
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|l| l.split_whitespace().collect()).collect()
}

#[test]
fn turns_are_in_the_histograms_and_in_the_histories() {
    let mut perf = Perf::new(Supervision::default());
    let mut four = [0; packet::BATCH_LEN];
    four[3] = 1;
    perf.enter(turn(600, 0), &[], 1);
    perf.enter(turn(2000, 4), &four, 1);
    perf.enter(turn(900, 0), &[], 2);
    perf.enter(turn(900, 0), &[], 2);
    let all = PerfShown { histograms: true, turns: 2, milliseconds: 2 };
    let text = perf.show(all);
    let rows = rows(&text);
    // A blank line, title, headings, 32 bins, a rule, headings and values of the milliseconds that are over.
    assert_eq!(rows[1], ["Histograms"]);
    assert_eq!(rows[3][..4], ["500", "0", "0", "3"]);
    assert_eq!(rows[4][..2], ["716", "1"], "{text}");
    assert_eq!(rows[34][..2], [">", "0"]);
    assert_eq!(rows[37], ["1300", "2.00000", "500", "4.00000", "0.00000", "0.00000", "0"]);
    assert_eq!(rows[40], ["4", "900", "0", "0", "0", "0", "0", "0"]);
    assert_eq!(rows[44], ["1", "2", "1300", "4", "500", "4", "0", "0", "0"]);
    perf.clear();
    assert_eq!(perf.cycles.samples(), 0);
    assert_eq!(perf.show(PerfShown { histograms: false, ..all }).matches("0.00000").count(), 0);
}

#[test]
fn a_recorder_enters_what_the_thread_noted_and_never_waits() {
    let perf = Arc::new(Mutex::new(Perf::new(Supervision::default())));
    let mut recorder = Recorder::new(Arc::clone(&perf));
    recorder.turn(1, missed(10), true);
    assert!(recorder.is_on());
    recorder.batch(32, None);
    recorder.batch(2, Some(77));
    recorder.turn(1, Upcalls { answered: 2, answered_ns: 1000, ..missed(13) }, true);
    let seen = perf.lock().turns.last(1).next().unwrap();
    assert_eq!((seen.packets, seen.batches, seen.fill, seen.upcalls), (34, 2, 77, 3));
    assert_eq!((seen.answered, perf.lock().cycles_per_upcall.samples()), (2, 2));
    assert!(seen.upcall_cycles > 0);
    assert!(seen.cycles > 0 && seen.cycles == seen.busy_cycles);
    {
        let _somebody_looks = perf.lock();
        recorder.turn(1, missed(13), true);
    }
    recorder.turn(1, missed(13), false);
    assert_eq!(perf.lock().turns.count(), 2);
    recorder.turn(1, missed(13), false);
    assert_eq!(perf.lock().turns.count(), 2);
    assert_eq!(perf.lock().batch.samples(), 2);
}

#[test]
fn supervision_is_set_as_the_command_says() {
    let set = |args: &[&str]| Supervision::default().with(args);
    let new = set(&["on", "-b", "10", "-a", "2000", "-e", "-us", "5", "-q", "7"]).unwrap();
    assert_eq!(new.to_string(), "on, before=10, after=988, extend=true, us_thr=5, q_thr=7");
    for wrong in [&["-b"][..], &["-us", "x"], &["maybe"], &["-a", "-1"]] {
        assert_eq!(set(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_suspicious_turn_is_logged_once_those_after_it_are_over() {
    let on = Supervision { is_on: true, fill: 100, after: 2, ..Supervision::default() };
    let mut perf = Perf::new(on);
    let full = Turns { fill: 100, ..turn(1, 1) };
    let at_work = |perf: &Perf| perf.suspect.is_some();
    perf.enter(turn(1, 1), &[], 1);
    assert!(!at_work(&perf));
    perf.enter(full, &[], 1);
    perf.enter(full, &[], 1);
    assert!(at_work(&perf));
    perf.enter(turn(1, 1), &[], 1);
    assert!(!at_work(&perf));
    let slow = turn(crate::watch::hz() as u64, 1);
    perf.supervise(Supervision { extends: true, after: 1, ..on });
    perf.enter(slow, &[], 1);
    perf.enter(slow, &[], 1);
    assert!(at_work(&perf));
    perf.enter(turn(1, 1), &[], 1);
    assert!(!at_work(&perf));
}
