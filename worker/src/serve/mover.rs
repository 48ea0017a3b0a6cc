//! A state machine that many threads speak to, moved by whoever has something to say.
//!
//! Between what is said and what follows of it lies no hand-over: whoever posts something moves the machine on its own
//! thread, unless another does, which then finds what was posted before it stops. Posting never waits for the machine.
//! The machine's own thread ([`Mover::run`]) does what is due, what takes long ([`Machine::takes_long`]), and what is
//! left after [`TURN_MAX`] by a thread that has other work.
//!
//! What may set off anything, such as a waker, is said without any lock on the machine, and in order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::alarm::Alarm;

/// How long a thread works for the others before it goes back to its own work.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Something that is said once the machine is let go. It must not wait.
pub type Saying = Box<dyn FnOnce() + Send>;

/// What is moved.
pub trait Machine: Send {
    /// What it can be told.
    type Input: Send;

    /// Takes what it is told at `now`, or the passing of time, and does all that follows. It must not wait.
    fn handle(&mut self, now: Duration, input: Option<Self::Input>);

    /// When time has passed for it, if ever.
    fn next_timeout(&self) -> Option<Duration>;

    /// What is to be said without any lock on it.
    fn sayings(&mut self) -> Vec<Saying> {
        Vec::new()
    }

    /// Whether what it is told may take so long that a thread of the network must not do it: the other side would
    /// think that we are dead.
    fn takes_long(&self, _input: &Self::Input) -> bool {
        false
    }

    /// It has panicked in the middle of something. That has been printed.
    fn has_panicked(&mut self) {}

    /// Whether it has ended: then [`Mover::run`] returns.
    fn is_over(&self) -> bool {
        false
    }
}

/// A machine, and what is to be told it. It may be told things before it is there, and when it is no more.
pub struct Mover<M: Machine> {
    inbox: Mutex<VecDeque<M::Input>>,
    machine: Mutex<Option<M>>,
    outbox: Mutex<VecDeque<Saying>>,
    /// Held by whoever empties the outbox, so that everything is said in order.
    speaking: Mutex<()>,
    alarm: Alarm,
    epoch: Instant,
}

impl<M: Machine> Default for Mover<M> {
    fn default() -> Mover<M> {
        Mover {
            inbox: Mutex::default(),
            machine: Mutex::new(None),
            outbox: Mutex::default(),
            speaking: Mutex::default(),
            alarm: Alarm::default(),
            epoch: Instant::now(),
        }
    }
}

/// Who moves the machine.
#[derive(Clone, Copy, PartialEq)]
enum Hand {
    /// Its own thread.
    Own,
    /// A thread that has the time for everything that comes.
    Patient,
    /// A thread that has none for what takes long.
    Brief,
}

/// What was posted next.
enum Next<I> {
    Input(I),
    /// Something that is not for this hand to do.
    Left,
    Nothing,
}

impl<M: Machine> Mover<M> {
    /// Here is the machine.
    pub fn start(&self, machine: M) {
        *lock(&self.machine) = Some(machine);
        self.alarm.ring();
    }

    /// Tells the machine something and sees to it that it moves.
    pub fn post(&self, input: M::Input) {
        lock(&self.inbox).push_back(input);
        self.go_on(Hand::Patient);
    }

    /// The same on a thread of the network's: what takes long, and what comes behind it, is left to others.
    pub fn post_briefly(&self, input: M::Input) {
        lock(&self.inbox).push_back(input);
        self.go_on(Hand::Brief);
    }

    /// Tells the machine something and returns when it has heard it.
    pub fn call(&self, input: M::Input) {
        let mut guard = lock(&self.machine);
        lock(&self.inbox).push_back(input);
        if let Some(machine) = guard.as_mut() {
            self.turn(machine, Hand::Own);
        }
        drop(guard);
        self.speak();
        self.go_on(Hand::Patient);
    }

    /// Moves the machine whenever time has passed for it, and does what others leave, until it is over or
    /// [`Mover::stop`].
    pub fn run(&self) {
        while self.alarm.wait() {
            let mut guard = lock(&self.machine);
            if let Some(machine) = guard.as_mut() {
                self.tell(machine, self.epoch.elapsed(), None);
                self.turn(machine, Hand::Own);
            }
            drop(guard);
            self.speak();
            self.go_on(Hand::Own);
        }
    }

    /// Ends [`Mover::run`].
    pub fn stop(&self) {
        self.alarm.stop();
    }

    /// Takes the machine away: from now on it is told nothing.
    pub fn take(&self) -> Option<M> {
        lock(&self.machine).take()
    }

    /// Moves the machine unless another thread does, which then finds all that was posted until now: it looks at the
    /// inbox once more after it has let go.
    fn go_on(&self, hand: Hand) {
        while !lock(&self.inbox).is_empty() {
            let mut guard = match self.machine.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let Some(machine) = guard.as_mut() else { return };
            let is_done = self.turn(machine, hand);
            drop(guard);
            self.speak();
            if !is_done {
                return self.alarm.ring();
            }
        }
    }

    /// Tells the machine what was posted, as far as this is for `hand` to do and there is time; whether that was all.
    fn turn(&self, machine: &mut M, hand: Hand) -> bool {
        let begun = self.epoch.elapsed();
        let mut now = begun;
        let mut is_done = false;
        while hand == Hand::Own || now - begun < TURN_MAX {
            match self.next_input(machine, hand) {
                Next::Input(input) => self.tell(machine, now, Some(input)),
                Next::Left => break,
                Next::Nothing => {
                    is_done = true;
                    break;
                }
            }
            now = self.epoch.elapsed();
        }
        let sayings = machine.sayings();
        if !sayings.is_empty() {
            lock(&self.outbox).extend(sayings);
        }
        match machine.is_over() {
            true => self.alarm.stop(),
            false => self.alarm.set(machine.next_timeout().map(|due| self.epoch + due)),
        }
        is_done
    }

    fn tell(&self, machine: &mut M, now: Duration, input: Option<M::Input>) {
        if catch_unwind(AssertUnwindSafe(|| machine.handle(now, input))).is_err() {
            machine.has_panicked();
        }
    }

    fn next_input(&self, machine: &M, hand: Hand) -> Next<M::Input> {
        let mut inbox = lock(&self.inbox);
        match inbox.pop_front_if(|front| hand != Hand::Brief || !machine.takes_long(front)) {
            Some(input) => Next::Input(input),
            None if inbox.is_empty() => Next::Nothing,
            None => Next::Left,
        }
    }

    /// Says what is to be said, in order, unless another thread does: it looks at the outbox once more after it has
    /// let go.
    fn speak(&self) {
        while !lock(&self.outbox).is_empty() {
            let Ok(_speaking) = self.speaking.try_lock() else { return };
            while let Some(say) = self.next_saying() {
                // A waker may be anybody's. Its panic has been printed; the others are told all the same.
                drop(catch_unwind(AssertUnwindSafe(say)));
            }
        }
    }

    fn next_saying(&self) -> Option<Saying> {
        lock(&self.outbox).pop_front()
    }
}

/// A lock whose holders leave nothing half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread::{self, ThreadId};

    use super::*;

    /// Notes what it hears, and on which thread.
    struct Diary {
        heard: mpsc::Sender<(Option<Word>, ThreadId)>,
        due: Option<Duration>,
        is_over: bool,
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Word {
        Quick(usize),
        Slow(usize),
        Wake(Duration),
        Panic,
        End,
    }

    impl Machine for Diary {
        type Input = Word;

        fn handle(&mut self, now: Duration, input: Option<Word>) {
            match &input {
                None if self.due.is_none_or(|due| now < due) => return,
                None => self.due = None,
                Some(Word::Wake(after)) => self.due = Some(now + *after),
                Some(Word::Panic) => panic!("as the test wants"),
                Some(Word::End) => self.is_over = true,
                Some(Word::Quick(_) | Word::Slow(_)) => {}
            }
            self.heard.send((input, thread::current().id())).unwrap();
        }

        fn next_timeout(&self) -> Option<Duration> {
            self.due
        }

        fn takes_long(&self, word: &Word) -> bool {
            matches!(word, Word::Slow(_))
        }

        fn has_panicked(&mut self) {
            self.is_over = true;
        }

        fn is_over(&self) -> bool {
            self.is_over
        }
    }

    type Heard = mpsc::Receiver<(Option<Word>, ThreadId)>;

    fn started() -> (Arc<Mover<Diary>>, Heard) {
        let (mover, (heard, hears)) = (Arc::<Mover<Diary>>::default(), mpsc::channel());
        mover.start(Diary { heard, due: None, is_over: false });
        (mover, hears)
    }

    #[test]
    fn everything_is_heard_once_and_in_the_order_of_who_says_it() {
        const THREADS: usize = 4;
        const WORDS: usize = 5000;
        let (mover, hears) = started();
        let own = {
            let mover = Arc::clone(&mover);
            thread::spawn(move || mover.run())
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let mover = &mover;
                scope.spawn(move || {
                    (0..WORDS).for_each(|at| {
                        let number = thread + at * THREADS;
                        let word = if at % 100 == 7 { Word::Slow(number) } else { Word::Quick(number) };
                        if thread % 2 == 0 { mover.post(word) } else { mover.post_briefly(word) }
                    })
                });
            }
        });
        let mut next = [0; THREADS];
        for _ in 0..THREADS * WORDS {
            let (word, _) = hears.recv_timeout(Duration::from_secs(30)).unwrap();
            let Some(Word::Quick(number) | Word::Slow(number)) = word else { panic!("{word:?}") };
            assert_eq!(number / THREADS, next[number % THREADS]);
            next[number % THREADS] += 1;
        }
        mover.post(Word::End);
        own.join().unwrap();
        assert_eq!(hears.try_iter().count(), 1);
    }

    #[test]
    fn what_takes_long_and_what_follows_it_is_not_done_by_a_brief_hand() {
        let (mover, hears) = started();
        let here = thread::current().id();
        mover.post_briefly(Word::Quick(0));
        assert_eq!(hears.try_recv(), Ok((Some(Word::Quick(0)), here)));
        mover.post_briefly(Word::Slow(1));
        mover.post_briefly(Word::Quick(2));
        assert!(hears.try_recv().is_err());
        let own = {
            let mover = Arc::clone(&mover);
            thread::spawn(move || mover.run())
        };
        let id = own.thread().id();
        assert_eq!([(); 2].map(|()| hears.recv().unwrap()), [(Some(Word::Slow(1)), id), (Some(Word::Quick(2)), id)]);
        mover.post(Word::Slow(3));
        assert_eq!(hears.recv().unwrap().0, Some(Word::Slow(3)));
        mover.stop();
        own.join().unwrap();
    }

    #[test]
    fn it_wakes_when_it_is_due_also_if_that_is_sooner_than_it_was() {
        let (mover, hears) = started();
        let own = {
            let mover = Arc::clone(&mover);
            thread::spawn(move || mover.run())
        };
        let begun = Instant::now();
        mover.post(Word::Wake(Duration::from_secs(60)));
        mover.post(Word::Wake(Duration::from_millis(20)));
        let words = [(); 3].map(|()| hears.recv_timeout(Duration::from_secs(30)).unwrap().0);
        assert_eq!(words[2], None);
        assert!((Duration::from_millis(20)..Duration::from_secs(30)).contains(&begun.elapsed()));
        mover.stop();
        own.join().unwrap();
    }

    #[test]
    fn one_that_has_panicked_is_over_and_one_that_is_gone_is_told_nothing() {
        let (mover, hears) = started();
        mover.post(Word::Panic);
        mover.run();
        assert!(mover.take().is_some_and(|diary| diary.is_over));
        mover.post(Word::Quick(1));
        mover.call(Word::Quick(2));
        assert!(hears.try_recv().is_err() && mover.take().is_none());
    }
}
