//! Work that blocks, as a task: it has a thread of its own, which runs only while the task is polled, and everything else waits meanwhile. So
//! there is one thread at a time. Of those that could go on the oldest does: tokio wakes those who wait for one thing in an order of its own,
//! which no seed decides.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use filesync_cas::testing::{pause_by, sow};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::cluster::env::Work;

/// Between two looks whether another is done.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a thread may run before it is taken for stuck: it waits for something that only another could do.
const STUCK: Duration = Duration::from_secs(120);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Turn>>> = const { RefCell::new(None) };
}

/// Looks at something before and after each time that a thread runs.
pub type Look = Arc<dyn Fn() + Send + Sync>;

/// All fibers of a world.
#[derive(Clone, Default)]
pub struct Fibers(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    next: u64,
    there: BTreeMap<u64, (Pin<Box<Fiber>>, oneshot::Sender<()>)>,
    ready: BTreeSet<u64>,
    waker: Option<Waker>,
}

/// Has one fiber go on.
struct Ready(Fibers, u64);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.make_ready(self.1);
    }
}

impl Fibers {
    /// Begins work. It is told of its end, but not if it panicked.
    pub fn spawn(&self, runtime: &Handle, seed: u64, look: Look, work: Work) -> oneshot::Receiver<()> {
        let fiber = Box::pin(Fiber::new(runtime, seed, look, work));
        let (done, ended) = oneshot::channel();
        let number = {
            let mut all = lock(&self.0);
            all.next += 1;
            let number = all.next;
            all.there.insert(number, (fiber, done));
            number
        };
        self.make_ready(number);
        ended
    }

    /// How many have not ended.
    pub fn count(&self) -> usize {
        lock(&self.0).there.len()
    }

    fn make_ready(&self, number: u64) {
        let mut all = lock(&self.0);
        all.ready.insert(number);
        let waker = all.waker.clone();
        drop(all);
        waker.iter().for_each(Waker::wake_by_ref);
    }

    /// Runs them, one at a time, for ever.
    pub async fn run(self) {
        poll_fn(|context| {
            let (number, fiber) = {
                let mut all = lock(&self.0);
                all.waker = Some(context.waker().clone());
                let Some(number) = all.ready.pop_first() else { return Poll::<()>::Pending };
                (number, all.there.remove(&number))
            };
            // Tasks come in between.
            context.waker().wake_by_ref();
            let Some((mut fiber, done)) = fiber else { return Poll::Pending };
            let waker = Waker::from(Arc::new(Ready(self.clone(), number)));
            let polled = catch_unwind(AssertUnwindSafe(|| fiber.as_mut().poll(&mut Context::from_waker(&waker))));
            match polled {
                Ok(Poll::Pending) => drop(lock(&self.0).there.insert(number, (fiber, done))),
                Ok(Poll::Ready(())) => drop(done.send(())),
                Err(_) => drop(done),
            }
            Poll::Pending
        })
        .await;
    }
}

/// Work on a thread of its own.
struct Fiber {
    turn: Arc<Turn>,
    look: Look,
}

enum Whose {
    World,
    Fiber,
    Nobody(Result<(), Box<dyn Any + Send>>),
}

struct Turn {
    whose: Mutex<Whose>,
    moved: Condvar,
    waker: Mutex<Waker>,
}

impl Fiber {
    /// Work that begins when this is polled for the first time.
    fn new(runtime: &Handle, seed: u64, look: Look, work: Work) -> Self {
        let turn = Arc::new(Turn {
            whose: Mutex::new(Whose::World),
            moved: Condvar::new(),
            waker: Mutex::new(Waker::noop().clone()),
        });
        let (own, runtime) = (Arc::clone(&turn), runtime.clone());
        let run = move || {
            drop(own.wait_for(|whose| matches!(whose, Whose::Fiber)));
            let _entered = runtime.enter();
            sow(Some(seed));
            pause_by(Some(|| block_on(std::pin::pin!(sleep(PAUSE)))));
            CURRENT.set(Some(Arc::clone(&own)));
            let ended = catch_unwind(AssertUnwindSafe(work));
            CURRENT.set(None);
            own.pass(Whose::Nobody(ended));
        };
        std::thread::Builder::new().name("fiber".to_owned()).spawn(run).expect("a thread");
        Self { turn, look }
    }
}

impl Future for Fiber {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *lock(&self.turn.waker) = context.waker().clone();
        (self.look)();
        self.turn.pass(Whose::Fiber);
        let mut whose = self.turn.wait_for(|whose| !matches!(whose, Whose::Fiber));
        let ended = std::mem::replace(&mut *whose, Whose::World);
        drop(whose);
        (self.look)();
        match ended {
            Whose::World | Whose::Fiber => Poll::Pending,
            Whose::Nobody(Ok(())) => Poll::Ready(()),
            Whose::Nobody(Err(panic)) => resume_unwind(panic),
        }
    }
}

impl Turn {
    fn pass(&self, whose: Whose) {
        *lock(&self.whose) = whose;
        self.moved.notify_all();
    }

    fn wait_for(&self, is_it: impl Fn(&Whose) -> bool) -> MutexGuard<'_, Whose> {
        let mut whose = lock(&self.whose);
        while !is_it(&whose) {
            let is_running = matches!(*whose, Whose::Fiber);
            let waited = self.moved.wait_timeout(whose, STUCK).unwrap_or_else(PoisonError::into_inner);
            whose = waited.0;
            assert!(!(is_running && waited.1.timed_out()), "a thread waits for another, and not by the runtime");
        }
        whose
    }
}

/// Polls a future to its end, on the thread of a fiber: the others come in between.
pub fn block_on(mut future: Pin<&mut dyn Future<Output = ()>>) {
    let turn = CURRENT.with_borrow(Clone::clone).expect("only fibers wait");
    loop {
        let waker = lock(&turn.waker).clone();
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return;
        }
        turn.pass(Whose::World);
        drop(turn.wait_for(|whose| matches!(whose, Whose::Fiber)));
    }
}

/// Whether this is the thread of a fiber.
pub fn is_one() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
