//! Where handlers (and futures, and their outputs) wait that must not leave their thread: the table that keeps them there, and the tickets that travel.
//!
//! A handler is put into its thread's table, by its type; what goes with the operation is a [`Ticket`], the handler's place in
//! the table, which is `Send` for plain reasons. Whoever runs the completion redeems the ticket. Where the handler's proactor
//! runs, that takes the handler out and calls it; anywhere else the ticket posts itself, with the output, to there. A ticket that
//! is dropped unredeemed has the handler dropped, on its own thread, too. So it is no matter of who gets hold of a completion
//! whether a handler can be run or dropped elsewhere: nothing of it is ever elsewhere.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};

use crate::local::Local;
use crate::port::{CompletionPort, WeakPort};
use crate::sync::{Mutex, thread_slot};

// The tables of this thread, each with the number of its port.
thread_slot!(HERE: RefCell<Vec<(u32, Weak<Table>)>> = RefCell::new(Vec::new()));

/// The ports that have tables, on whichever thread: for tickets that find themselves elsewhere. That is rare, and spares each
/// ticket a count of its port.
static PORTS: Mutex<Vec<WeakPort>> = Mutex::new(Vec::new());

fn port_of(number: u32) -> Option<CompletionPort> {
    let ports = PORTS.lock();
    let port = ports.iter().find(|port| port.number == number)?;
    port.upgrade()
}

/// One port's handlers that are kept on this thread.
pub(super) struct Table {
    port: CompletionPort,
    shelves: RefCell<Shelves>,
    /// Whether it takes no more.
    ended: Cell<bool>,
}

#[derive(Default)]
struct Shelves {
    /// Each a `Shelf` of its type.
    all: Vec<Box<dyn Any>>,
    by_type: HashMap<TypeId, usize, BuildHasherDefault<AsItIs>>,
}

impl Shelves {
    /// Where the handlers of that type stand.
    fn number<H: 'static>(&mut self) -> usize {
        *self.by_type.entry(TypeId::of::<H>()).or_insert_with(|| {
            self.all.push(Box::new(Shelf::<H>::default()));
            self.all.len() - 1
        })
    }

    fn get<H: 'static>(&mut self, number: usize) -> Option<&mut Shelf<H>> {
        self.all.get_mut(number)?.downcast_mut()
    }
}

/// The handlers of one type, and which places among them are free. Its memory is that of the most there ever were.
struct Shelf<H> {
    places: Vec<Option<H>>,
    free: Vec<usize>,
}

impl<H> Default for Shelf<H> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<H> Shelf<H> {
    fn put(&mut self, handler: H) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(handler);
                place
            }
            None => {
                self.places.push(Some(handler));
                // Room for each to become free, so that only putting allocates.
                self.free.reserve(self.places.len());
                self.places.len() - 1
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<H> {
        let handler = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(handler)
    }
}

/// A type's identity is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Table {
    /// A table of this thread for the handlers of `port`.
    pub(super) fn new(port: CompletionPort) -> Rc<Self> {
        let table = Rc::new(Self {
            port,
            shelves: RefCell::default(),
            ended: Cell::new(false),
        });
        let port = table.port.downgrade();
        HERE.with(|here| {
            let known = (port.number, Rc::downgrade(&table));
            here.borrow_mut().push(known);
        });
        PORTS.lock().push(port);
        table
    }

    /// This thread's table for the port of that number, if it has one.
    fn of(number: u32) -> Option<Rc<Self>> {
        let find = |here: &RefCell<Vec<(u32, Weak<Self>)>>| {
            let here = here.borrow();
            let (_, table) = here.iter().find(|(known, _)| *known == number)?;
            table.upgrade()
        };
        // At the thread's end the list may be gone, and with it all that could be asked for.
        HERE.try_with(find).ok().flatten()
    }

    /// As `of`, if this thread works for the port just now.
    pub(super) fn at_work(number: u32) -> Option<Rc<Self>> {
        Self::of(number).filter(|table| table.is_at_work())
    }

    /// Whether this thread works for the port just now.
    fn is_at_work(&self) -> bool {
        Local::with(&self.port.0.home, |local| local.is_some())
    }

    pub(super) fn number(&self) -> u32 {
        self.port.0.home.id
    }

    pub(super) fn port(&self) -> &CompletionPort {
        &self.port
    }

    /// Keeps `handler`, for its ticket. Gives it back if the table has ended.
    pub(super) fn keep<H: 'static>(&self, handler: H) -> Result<Ticket<H>, H> {
        if self.ended.get() {
            return Err(handler);
        }
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.number::<H>();
        match shelves.get::<H>(shelf) {
            Some(handlers) => Ok(Ticket {
                port: self.number(),
                shelf,
                place: handlers.put(handler),
                handler: PhantomData,
            }),
            None => Err(handler), // Cannot be: it has this number since it is there.
        }
    }

    /// Takes a handler out; none, if the table has ended meanwhile.
    fn take<H: 'static>(&self, ticket: &Ticket<H>) -> Option<H> {
        let mut shelves = self.shelves.borrow_mut();
        shelves.get::<H>(ticket.shelf)?.take(ticket.place)
    }

    /// Drops every handler, uncalled, and takes no more.
    pub(super) fn end(&self) {
        self.ended.set(true);
        // Not under the borrow: what a handler captured may begin operations, or cancel some, as it is dropped.
        let shelves = self.shelves.take();
        drop(shelves);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let number = self.number();
        let _ = HERE.try_with(|here| here.borrow_mut().retain(|(known, _)| *known != number));
        PORTS.lock().retain(|port| port.number != number);
    }
}

/// Stands for a handler wherever its operation goes: plain numbers.
pub(super) struct Ticket<H: 'static> {
    /// The number of the port whose table has the handler.
    port: u32,
    shelf: usize,
    place: usize,
    handler: PhantomData<fn() -> H>,
}

impl<H: 'static> Ticket<H> {
    /// Has `call` called with the handler, where its proactor runs: now, if this is there, else as a call posted there. If that
    /// proactor is gone, so is the handler, and nothing is called.
    pub(super) fn redeem(self, call: impl FnOnce(H) + Send + 'static) {
        if let Some(table) = Table::at_work(self.port) {
            let handler = self.claim(&table);
            drop(table); // The call may be long.
            if let Some(handler) = handler {
                call(handler);
            }
        } else if let Some(port) = port_of(self.port) {
            port.post(move || self.redeem(call));
        }
    }

    /// The handler, or whatever it stands for, out of its own table; none, if that has ended meanwhile.
    pub(super) fn claim(self, table: &Table) -> Option<H> {
        table.take(&ManuallyDrop::new(self))
    }
}

impl<H: 'static> Drop for Ticket<H> {
    /// The handler is not wanted.
    fn drop(&mut self) {
        if let Some(table) = Table::of(self.port) {
            drop(table.take(self));
        } else if let Some(port) = port_of(self.port) {
            // If the call is dropped in its turn, that is all: the table has ended then, or is about to.
            let ticket = ManuallyDrop::new(Self { ..*self });
            port.post(move || drop(ManuallyDrop::into_inner(ticket)));
        }
    }
}
