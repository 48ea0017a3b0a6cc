//! Blocks that a client takes as they come: told when there are some, freed when they are taken, waited for if slow.

use super::*;

/// Where the answer to a question says that blocks are.
fn located(actions: &[Action], asked: u64) -> Option<Result<Vec<(u64, Interval)>, JobError>> {
    actions.iter().find_map(|action| match action {
        Action::ToClient { message: ToClient::Located { request, result }, .. } if *request == asked => {
            let places = |holders: &Vec<Holding>| holders.iter().map(|held| (held.worker.0, held.blocks)).collect();
            Some(result.as_ref().map(places).map_err(Clone::clone))
        }
        _ => None,
    })
}

fn is_freed(actions: &[Action], on: u64, of: u64, blocks: Interval) -> bool {
    let message = ToWorker::Free { array: array(of), blocks: vec![blocks] };
    actions.contains(&Action::ToWorker { worker: WorkerId(on), message })
}

#[test]
fn a_stream_tells_what_is_new_and_what_is_taken_is_freed_and_never_made_again() {
    let mut driver = Driver::new(1);
    driver.submit(&[StageOf::map(array(1), &[], 4)], &[1]);
    let stream = |request| FromClient::Stream { request, array: array(1) };
    assert_eq!(located(&driver.say(stream(1)), 1), None);
    assert_eq!(located(&driver.done(1, 1, 0, 2, seconds(1)), 1), Some(Ok(vec![(1, Interval::new(0, 2))])));
    assert_eq!(located(&driver.say(stream(2)), 2), None, "it was told of these");
    let taken = driver.say(FromClient::Taken { array: array(1), blocks: vec![one(1)] });
    assert!(is_freed(&taken, 1, 1, one(1)));
    assert_eq!((driver.state(1, 0), driver.state(1, 1)), (BlockState::Held, BlockState::Spent));
    // What was not to be had is told again.
    let failed = FetchError::Unreachable;
    let block = BlockId { array: array(1), index: 0 };
    driver.now = seconds(1);
    let again = driver.say(FromClient::FetchFailed { block, holder: WorkerId(1), error: failed });
    assert_eq!(located(&again, 2), Some(Ok(vec![(1, one(0))])));
    // Lost before it was heard to be taken: it is made again until then.
    driver.gone(1);
    assert_eq!(driver.state(1, 0), BlockState::Ready);
    driver.say(FromClient::Taken { array: array(1), blocks: vec![one(0)] });
    assert_eq!(driver.state(1, 0), BlockState::Spent);
    driver.join(2, 100);
    driver.join(3, 100);
    let done = [driver.done(2, 1, 2, 3, seconds(1)), driver.done(3, 1, 3, 4, seconds(1))].concat();
    assert_eq!(driver.scheduler.held_blocks(array(1)), Some(2));
    assert!(told(&done, &ToClient::JobDone { job: JobId { client: CLIENT, sequence: 1 } }));
    let locate = FromClient::Locate { request: 3, array: array(1), blocks: Interval::new(0, 4) };
    assert_eq!(located(&driver.say(locate), 3), Some(Err(JobError::UnknownArray { array: array(1) })));
    let all = driver.say(FromClient::Taken { array: array(1), blocks: vec![Interval::new(0, 4)] });
    assert!(is_freed(&all, 2, 1, one(2)) && is_freed(&all, 3, 1, one(3)));
    driver.say(FromClient::Release { arrays: vec![array(1)] });
    assert_eq!(driver.scheduler.held_blocks(array(1)), None);
}

#[test]
fn a_stream_of_small_blocks_is_told_of_many_at_once() {
    let mut driver = Driver::new(1);
    driver.submit(&[StageOf::map(array(1), &[], 9)], &[1]);
    let stream = |request| FromClient::Stream { request, array: array(1) };
    driver.say(stream(1));
    let done = |driver: &mut Driver, start, end| driver.done(1, 1, start, end, Duration::from_micros(1));
    assert_eq!(located(&done(&mut driver, 0, 1), 1), Some(Ok(vec![(1, one(0))])), "the first come at once");
    driver.say(stream(2));
    assert_eq!(located(&done(&mut driver, 1, 2), 2), None);
    assert_eq!(driver.scheduler.next_timeout(), Some(Duration::from_millis(10)));
    assert_eq!(located(&done(&mut driver, 2, 3), 2), None);
    driver.now = Duration::from_millis(10);
    assert_eq!(located(&driver.handle(Event::Tick), 2), Some(Ok(vec![(1, Interval::new(1, 3))])));
    driver.say(stream(3));
    assert_eq!(located(&done(&mut driver, 3, 8), 3), None);
    assert_eq!(located(&done(&mut driver, 8, 9), 3), Some(Ok(vec![(1, Interval::new(3, 9))])), "no more will come");
}

#[test]
fn what_is_taken_stays_for_who_else_reads_it() {
    let mut driver = Driver::new(1);
    let stages = [StageOf::map(array(1), &[], 2), StageOf::flip(array(2), array(1), 2)];
    driver.submit(&stages, &[1, 2]);
    driver.done(1, 1, 0, 2, seconds(1));
    let taken = driver.say(FromClient::Taken { array: array(1), blocks: vec![Interval::new(0, 2)] });
    assert!(!is_freed(&taken, 1, 1, Interval::new(0, 2)));
    let read = driver.done(1, 2, 0, 1, seconds(1));
    assert!(is_freed(&read, 1, 1, one(1)), "{read:?}");
    assert_eq!((driver.state(1, 0), driver.state(1, 1)), (BlockState::Held, BlockState::Spent));
    // The last reader is lost with its result: it needs both again, its client none.
    driver.gone(1);
    assert_eq!((driver.state(1, 0), driver.state(1, 1)), (BlockState::Ready, BlockState::Ready));
    driver.join(2, 100);
    driver.done(2, 1, 0, 2, seconds(1));
    // The one that was in flight when the worker went comes first, and alone.
    assert!(is_freed(&driver.done(2, 2, 1, 2, seconds(1)), 2, 1, one(0)));
    assert!(is_freed(&driver.done(2, 2, 0, 1, seconds(1)), 2, 1, one(1)));
}

#[test]
fn a_slow_client_is_waited_for_and_one_that_never_takes_is_not() {
    let error = JobError::Memory { array: array(1), needs: 32, has: 4 };
    let refuse_at = |driver: &mut Driver, at: u64| {
        driver.now = seconds(at);
        driver.handle(Event::Tick);
        let blocks = vec![Interval::new(2, 4)];
        failures(&driver.hear(1, FromWorker::Refused { array: array(1), blocks, needs: 32, has: 4 }))
    };
    let ready = || {
        let mut driver = Driver::new(1);
        driver.submit(&[StageOf::map(array(1), &[], 100)], &[1]);
        driver.done(1, 1, 0, 2, seconds(1));
        assert!(refuse_at(&mut driver, 0).is_empty());
        driver
    };
    assert_eq!(refuse_at(&mut ready(), 30), vec![error.clone()]);
    let mut driver = ready();
    driver.say(FromClient::Stream { request: 1, array: array(1) });
    assert!(refuse_at(&mut driver, 599).is_empty());
    // Room is used as soon as it is there.
    assert_eq!(runs(&driver.say(FromClient::Taken { array: array(1), blocks: vec![one(0)] })).len(), 1);
    assert!(refuse_at(&mut driver, 1198).is_empty(), "one block in ten minutes will do");
    assert_eq!(refuse_at(&mut driver, 1199), vec![error]);
}
