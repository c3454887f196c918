//! What was taken from a reading direction and given back: it is served before the socket, in front of what comes.
//!
//! A read that found its delimiter has read on; a future that was dropped has taken what nobody got. Such bytes,
//! datagrams and connections lie here under their object's index. Whoever holds the direction puts and takes, nobody else;
//! `Entry::shelved` says whether there is anything, so that a direction without pays one look for it.
#![allow(unsafe_code)] // an operation's buffers are known by address

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};

use smallvec::SmallVec;

use super::registry::EntryRef;
use crate::buf::Datagram;
#[cfg(proactor_loom)]
use crate::operation::perform;
use crate::operation::perform::WOULD_BLOCK;
use crate::operation::{Envelope, Request, Returned};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;

/// What one direction has, oldest first. Of one sort only, as its object is.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) sockets: VecDeque<(OwnedFd, SocketAddr)>,
    pub(crate) datagrams: VecDeque<Datagram>,
    units: usize,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<HashMap<u32, Stock>>);

impl Shelf {
    /// Whether `entry`'s reading direction has anything. Relaxed: it is written under a hold, and asked under one, or under
    /// the lock of a direction that nobody holds.
    #[inline]
    pub(crate) fn has(entry: EntryRef) -> bool {
        entry.shelved.load(Ordering::Relaxed)
    }

    /// Puts what was taken last in front. The caller holds `entry`'s reading direction.
    pub(crate) fn put(&self, entry: EntryRef, returned: Returned) {
        let mut stocks = self.0.lock();
        let stock = stocks.entry(entry.index).or_default();
        stock.put(returned);
        if stock.is_empty() {
            stocks.remove(&entry.index);
        } else {
            entry.shelved.store(true, Ordering::Relaxed);
        }
    }

    /// Does what `request` says with what is there, as the kernel would: the number. The caller holds `entry`'s reading direction.
    pub(crate) fn serve(&self, entry: EntryRef, request: &Request) -> i64 {
        // SAFETY: an operation's request names memory that the operation owns, and that stays while the backend has the cell
        // (`Operation` is sealed).
        let rooms = unsafe { rooms(request) };
        let mut stocks = self.0.lock();
        let Some(stock) = stocks.get_mut(&entry.index) else {
            return WOULD_BLOCK;
        };
        // SAFETY: as above.
        let served = unsafe { stock.serve(request, &rooms) };
        if stock.is_empty() {
            stocks.remove(&entry.index);
            entry.shelved.store(false, Ordering::Relaxed);
        }
        served
    }

    /// Takes all of it. Nobody holds `entry`'s reading direction any more, or the caller does.
    pub(crate) fn clear(&self, entry: EntryRef) -> Stock {
        if !Self::has(entry) {
            return Stock::default();
        }
        entry.shelved.store(false, Ordering::Relaxed);
        self.0.lock().remove(&entry.index).unwrap_or_default()
    }
}

/// The parts of memory of a request that has several. Asked for without a lock: a buffer of the user's may do anything as it is asked.
type Rooms = SmallVec<[(*mut u8, usize); 8]>;

/// # Safety
///
/// The parts that the request names are there, and nobody else's.
unsafe fn rooms(request: &Request) -> Rooms {
    let mut rooms = Rooms::new();
    if let Request::ReadVectored(mut parts) = *request {
        // SAFETY: the caller's promise.
        unsafe { parts.as_mut() }.each(&mut |ptr, len| rooms.push((ptr, len)));
    }
    rooms
}

impl Stock {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
            && self.sockets.is_empty()
            && self.datagrams.is_empty()
            && self.units == 0
    }

    fn put(&mut self, returned: Returned) {
        match returned {
            Returned::Bytes(bytes) => {
                // What lies here already stays where it is: it may be much, and this little.
                let count = bytes.len();
                self.bytes.extend(bytes);
                self.bytes.rotate_right(count);
            }
            Returned::Accepted(socket, peer) => self.sockets.push_front((socket, peer)),
            Returned::Datagram(datagram) => self.datagrams.push_front(datagram),
            Returned::Units(units) => self.units += units,
        }
    }

    /// # Safety
    ///
    /// The memory that the request names, and that `rooms` are of it, is good for writing, and nobody else's.
    unsafe fn serve(&mut self, request: &Request, rooms: &[(*mut u8, usize)]) -> i64 {
        let served = match *request {
            // SAFETY: the caller's promise.
            Request::Read { ptr, len } => unsafe { self.copy(ptr, len) },
            Request::ReadLate { mut into, .. } => {
                // SAFETY: the caller's promise.
                let late = unsafe { into.as_mut() };
                let room = late.bind();
                // SAFETY: the room is as long as it says, and nobody else's.
                let count = unsafe { self.copy(room.as_mut_ptr(), room.len()) };
                late.filled(count);
                count
            }
            Request::ReadVectored(_) => rooms
                .iter()
                // SAFETY: the caller's promise, for each part.
                .map(|&(ptr, len)| unsafe { self.copy(ptr, len) })
                .sum(),
            Request::RecvFrom { ptr, len, envelope } => {
                let Some(datagram) = self.datagrams.pop_front() else {
                    return WOULD_BLOCK;
                };
                // SAFETY: the caller's promise.
                unsafe { deliver(&datagram, ptr, len, envelope) }
            }
            Request::RecvFromLate { mut into, envelope } => {
                let Some(datagram) = self.datagrams.pop_front() else {
                    return WOULD_BLOCK;
                };
                // SAFETY: the caller's promise.
                let late = unsafe { into.as_mut() };
                let room = late.bind();
                // SAFETY: the room is as long as it says, and nobody else's; the rest is the caller's promise.
                let count = unsafe { deliver(&datagram, room.as_mut_ptr(), room.len(), envelope) };
                late.filled(count);
                count
            }
            Request::Accept { peer } => {
                let Some((socket, address)) = self.sockets.pop_front() else {
                    return WOULD_BLOCK;
                };
                // SAFETY: the caller's promise.
                unsafe { *peer = Some(address) };
                return socket.into_raw_fd().into();
            }
            #[cfg(proactor_loom)]
            Request::Script { len, memory, .. } => {
                perform::touch(memory);
                let served = len.min(self.units);
                self.units -= served;
                served
            }
            Request::Ready { .. } => 0,
            _ => return WOULD_BLOCK,
        };
        i64::try_from(served).unwrap_or(i64::MAX)
    }

    /// # Safety
    ///
    /// `ptr` is good for writing `len` bytes, and nobody else's.
    unsafe fn copy(&mut self, ptr: *mut u8, len: usize) -> usize {
        let (first, second) = self.bytes.as_slices();
        let first = &first[..first.len().min(len)];
        let second = &second[..second.len().min(len - first.len())];
        // SAFETY: `first` and `second` together are at most `len` bytes; they are the deque's own, so not of that memory.
        unsafe { ptr.copy_from_nonoverlapping(first.as_ptr(), first.len()) };
        // SAFETY: `first` is at most `len` bytes.
        let ptr = unsafe { ptr.add(first.len()) };
        // SAFETY: as for `first`.
        unsafe { ptr.copy_from_nonoverlapping(second.as_ptr(), second.len()) };
        let copied = first.len() + second.len();
        self.bytes.drain(..copied);
        copied
    }
}

/// Does as the kernel does with a datagram: how much of it fitted.
///
/// # Safety
///
/// `ptr` is good for writing `len` bytes, `envelope` for writing, and both are nobody else's.
unsafe fn deliver(datagram: &Datagram, ptr: *mut u8, len: usize, envelope: *mut Envelope) -> usize {
    let count = datagram.len().min(len);
    // SAFETY: the caller's promise; `count` is at most either length.
    unsafe { ptr.copy_from_nonoverlapping(datagram.as_ptr(), count) };
    let envelope_of = Envelope {
        peer: Some(datagram.peer()),
        truncated: datagram.is_truncated() || count < datagram.len(),
    };
    // SAFETY: the caller's promise.
    unsafe { *envelope = envelope_of };
    count
}

#[cfg(all(test, not(proactor_loom)))]
mod tests {
    use super::*;
    use crate::buf::{BufferPool, LateBuf, PooledBuf};
    use std::ptr::NonNull;

    use proptest::prelude::*;

    /// What two datagrams can be told by.
    type Told = (Vec<u8>, u16, bool);

    fn told(bytes: &[u8], envelope: Envelope) -> Told {
        let port = envelope.peer.map_or(0, |peer| peer.port());
        (bytes.to_vec(), port, envelope.truncated)
    }

    proptest! {
        /// Each comes out as the kernel would have it, whole or cut, the last that was put back first; nothing is lost or joined.
        #[test]
        fn datagrams_keep_their_boundaries_and_their_order(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..9, any::<bool>()), 1..60),
        ) {
            let mut stock = Stock::default();
            let mut model: VecDeque<Told> = VecDeque::new();
            for (number, (put, len, flag)) in (1_u16..).zip(steps) {
                if put {
                    let bytes = vec![number.to_le_bytes()[0]; len];
                    let peer = SocketAddr::from(([127, 0, 0, 1], number));
                    let datagram = Datagram::new(PooledBuf::holding(&bytes), peer, flag);
                    stock.put(Returned::Datagram(datagram));
                    model.push_front((bytes, number, flag));
                } else {
                    let (served, came) = take(&mut stock, len, flag);
                    let expected = model.pop_front().map(|(mut bytes, peer, was_cut)| {
                        let cut = bytes.len() > len;
                        bytes.truncate(len);
                        (bytes, peer, was_cut || cut)
                    });
                    prop_assert_eq!(served == WOULD_BLOCK, expected.is_none());
                    prop_assert_eq!(came, expected);
                }
                prop_assert_eq!(stock.is_empty(), model.is_empty());
            }
        }
    }

    /// Has a datagram served with room for `len` bytes, into a buffer that is there or one that comes `late`.
    fn take(stock: &mut Stock, len: usize, late: bool) -> (i64, Option<Told>) {
        let mut envelope = Envelope::default();
        let mut room = vec![0; len];
        let mut into = LateBuf::of(&BufferPool::new(len.max(1)));
        let request = match late && len > 0 {
            true => Request::RecvFromLate {
                into: NonNull::from(&mut into),
                envelope: &raw mut envelope,
            },
            false => Request::RecvFrom {
                ptr: room.as_mut_ptr(),
                len,
                envelope: &raw mut envelope,
            },
        };
        // SAFETY: all that the request names is here, and nobody else's.
        let served = unsafe { stock.serve(&request, &[]) };
        let bytes = match late && len > 0 {
            true => into.into_buf().to_vec(),
            false => room[..usize::try_from(served).unwrap_or(0)].to_vec(),
        };
        let count = usize::try_from(served).ok();
        (
            served,
            count.map(|count| {
                assert_eq!(count, bytes.len());
                told(&bytes, envelope)
            }),
        )
    }

    proptest! {
        /// What is put back comes first, and nothing is lost, whatever the sizes.
        #[test]
        fn bytes_come_out_in_the_order_in_which_they_would_have(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..9), 1..60),
        ) {
            let mut stock = Stock::default();
            let mut model: Vec<u8> = Vec::new();
            let mut fresh = 0_u8..;
            for (put, len) in steps {
                if put {
                    let bytes: Vec<u8> = fresh.by_ref().take(len).collect();
                    stock.put(Returned::Bytes(bytes.clone()));
                    model.splice(0..0, bytes);
                } else {
                    let mut room = vec![0; len];
                    let request = Request::Read { ptr: room.as_mut_ptr(), len };
                    // SAFETY: `room` is that long, and nobody else's.
                    let served = usize::try_from(unsafe { stock.serve(&request, &[]) }).expect("a number");
                    let expected: Vec<u8> = model.drain(..len.min(model.len())).collect();
                    prop_assert_eq!(&room[..served], &expected[..]);
                }
                prop_assert_eq!(stock.is_empty(), model.is_empty());
            }
        }
    }
}
