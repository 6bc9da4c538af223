//! Calls, by themselves and beside bulk.

use super::*;

#[test]
fn calls() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (net, to) = (a.net(), b.key());
    let unreachable = net.call_and_wait(to, Class::Call, PUBLISH, vec![], WAIT);
    assert!(matches!(unreachable, Err(CallError::Unreachable(_))), "{unreachable:?}");
    a.connect(&b);
    for class in [Class::Call, Class::Raft] {
        let topic = if class == Class::Raft { RAFT } else { PUBLISH };
        let large = vec![0; 1 << 20];
        assert_eq!(net.call_and_wait(to, class, topic, large.clone(), WAIT), Ok((Status::Done, large)));
    }
    assert_eq!(net.call_and_wait(to, Class::Call, RAFT, vec![], WAIT), Ok((Status::Refused, vec![])));
    let long = net.call_and_wait(to, Class::Call, PUBLISH, vec![0; (1 << 20) + 1], WAIT);
    assert_eq!(long, Err(CallError::TooLong((1 << 20) + 1)));
    let late = net.call_and_wait(to, Class::Call, PUBLISH, vec![200], Duration::from_millis(50));
    assert_eq!(late, Err(CallError::TimedOut));
    // Both ways over one connection, and answers in any order.
    let slow = net.call(to, Class::Call, PUBLISH, vec![250, 1], WAIT);
    let slow = std::thread::spawn(move || futures::executor::block_on(slow));
    assert_eq!(b.net().call_and_wait(a.key(), Class::Call, PUBLISH, vec![0, 2], WAIT), Ok((Status::Done, vec![0, 2])));
    assert_eq!(net.call_and_wait(to, Class::Call, PUBLISH, vec![0, 3], WAIT), Ok((Status::Done, vec![0, 3])));
    assert_eq!(slow.join().expect("it does not panic"), Ok((Status::Done, vec![250, 1])));
}

/// Messages of Raft get through while bulk fills the line.
#[test]
fn bulk_does_not_starve_calls() {
    let (there, here) = (Node::new(1), Node::new(2));
    let head = there.repo.commit(&some_tree(1, 60 << 20), &[]);
    here.connect(&there);
    let running = AtomicBool::new(true);
    let (net, to) = (here.net(), there.key());
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let mut count = 0;
            while running.load(Ordering::Relaxed) || count == 0 {
                let begun = Instant::now();
                net.call_and_wait(to, Class::Raft, RAFT, vec![0; 1000], WAIT).expect("answered");
                slowest = slowest.max(begun.elapsed());
                count += 1;
            }
            (count, slowest)
        });
        let fetched = here.fetch(head, &[to], &mut |_| ()).0;
        running.store(false, Ordering::Relaxed);
        let (count, slowest) = calls.join().expect("every call is answered");
        fetched.expect("fetched");
        // Not a measurement: that calls are answered at all while bulk flows, and none waits for its end.
        assert!(count > 3, "{count} calls, the slowest {slowest:?}");
    });
}

/// Four fetches with which nobody goes on fill what they may have in flight, and calls pass all the same.
#[test]
fn bulk_that_nobody_reads_does_not_stop_calls() {
    let (there, here) = (Node::new(1), Node::new(2));
    let head = there.repo.commit(&some_tree(1, 30 << 20), &[]);
    here.connect(&there);
    let (waiting, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (net, to) = (here.net(), there.key());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cancel = AtomicBool::new(false);
                let (result, _) = here.fetch_unless(&cancel, head, &[to], &mut |stats| {
                    if stats.objects > 5 && !cancel.swap(true, Ordering::Relaxed) {
                        waiting.fetch_add(1, Ordering::Relaxed);
                        until("the calls are over", || is_over.load(Ordering::Relaxed));
                    }
                });
                assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
            });
        }
        until("all four have stopped", || waiting.load(Ordering::Relaxed) == 4);
        // More than what a connection may have in flight.
        for _ in 0..150 {
            let answer = net.call_and_wait(to, Class::Call, PUBLISH, vec![0; 100_000], WAIT / 2);
            assert_eq!(answer, Ok((Status::Done, vec![0; 100_000])));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
