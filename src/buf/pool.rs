//! Buffers that are lent: taken when there is something to fill them with, and given back when they are dropped.
//!
//! The free ones lie in several boxes, each with a lock of its own. A thread uses the box of its number, and looks into the others
//! only when that one is empty, or full; so threads that are at work do not meet at a lock. On top of each box lies one that is had
//! without the lock: what a thread gives back is mostly what it needs next.
#![allow(unsafe_code)] // a lent buffer promises stable memory, as any other; a free one is known by address

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr;

use super::{Buf, BufMut};
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Arc, Mutex, Trace, fresh_id, mutant, thread_slot};

/// How many boxes: a few more than threads that commonly share a pool.
const BOXES: usize = 8;

/// Buffers of one size, to be lent: [`recv_with`](crate::net::TcpStream::recv_with) takes one when there are bytes for it, so a
/// connection that waits has none. Clones are of one pool; any thread may use it.
///
/// A buffer is made when none is free. Of those that come back at most so many are kept as
/// [`with_max_idle`](Self::with_max_idle) said, and the others are freed; how many are lent at a time has no limit. The pool's memory goes
/// with its last clone and its last buffer.
///
/// ```
/// use proactor::BufferPool;
/// let pool = BufferPool::new(4096);
/// let buf = pool.take();
/// assert_eq!((buf.len(), pool.size()), (0, 4096)); // with room for that many
/// drop(buf); // back to the pool
/// ```
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

struct Pool {
    size: usize,
    boxes: [Shelved; BOXES],
}

/// On a cache line of its own.
#[repr(align(64))]
struct Shelved {
    /// One that is free, or null. Whoever exchanges it for null has it.
    top: AtomicPtr<Block>,
    #[expect(clippy::vec_box, reason = "a lent block is one word, wherever it goes")]
    free: Mutex<Vec<Box<Block>>>,
    most: usize,
}

struct Block {
    bytes: Box<[u8]>,
    len: usize,
    /// Where it belongs; none while it lies there, or if it belongs nowhere.
    pool: Option<BufferPool>,
    /// Who has it, as the models see it.
    tenant: Trace,
}

thread_slot!(NUMBER: Cell<Option<u32>> = Cell::new(None));

/// The box that this thread looks into first.
#[inline]
fn own_box() -> usize {
    let number = NUMBER.try_with(|number| number.get().unwrap_or_else(|| numbered(number)));
    number.unwrap_or(0) as usize % BOXES
}

#[cold]
fn numbered(number: &Cell<Option<u32>>) -> u32 {
    let fresh = fresh_id();
    number.set(Some(fresh));
    fresh
}

impl BufferPool {
    /// How many free buffers [`new`](Self::new) keeps at most.
    pub const MAX_IDLE: usize = 64;

    /// Of buffers of `size` bytes, which are at least one.
    pub fn new(size: usize) -> Self {
        Self::with_max_idle(size, Self::MAX_IDLE)
    }

    /// As [`new`](Self::new), and keeps at most `max_idle` free buffers: what a rush needed beyond that is freed after it.
    pub fn with_max_idle(size: usize, max_idle: usize) -> Self {
        let shelved = |at| {
            let most = max_idle / BOXES + usize::from(at < max_idle % BOXES);
            Shelved {
                top: AtomicPtr::new(ptr::null_mut()),
                // So that giving back does not allocate, within reason.
                free: Mutex::new(Vec::with_capacity(most.min(Self::MAX_IDLE))),
                most,
            }
        };
        Self(Arc::new(Pool {
            size: size.max(1),
            boxes: std::array::from_fn(shelved),
        }))
    }

    /// How many bytes a buffer has room for.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// An empty buffer with room for [`size`](Self::size) bytes: for operations that want theirs at once.
    #[inline]
    pub fn take(&self) -> PooledBuf {
        PooledBuf::of(Some(self.clone().into_block()))
    }

    /// A free block, or a fresh one, that knows where it belongs.
    #[inline(always)]
    fn into_block(self) -> Box<Block> {
        let mut block = match self.free_block() {
            Some(block) => block,
            None => self.fresh(),
        };
        block.tenant.changed();
        block.len = 0;
        block.pool = Some(self);
        block
    }

    #[cold]
    fn fresh(&self) -> Box<Block> {
        Box::new(Block {
            bytes: vec![0; self.0.size].into(),
            len: 0,
            pool: None,
            tenant: Trace::new(),
        })
    }

    #[inline]
    fn free_block(&self) -> Option<Box<Block>> {
        let own = own_box();
        self.0.boxes[own]
            .take_top()
            .or_else(|| self.free_elsewhere(own))
    }

    #[cold]
    fn free_elsewhere(&self, own: usize) -> Option<Box<Block>> {
        let below = self.0.boxes[own].free.lock().pop();
        below.or_else(|| {
            self.others(own)
                .find_map(|shelved| shelved.take_top().or_else(|| shelved.free.lock().pop()))
        })
    }

    /// Keeps the block, if there is room, but not on top of `own`, this thread's box. It is dropped here if not, outside of every lock.
    #[cold]
    fn keep_below(self, own: usize, block: Box<Block>) {
        let mut kept = self.0.boxes[own].put_below(block);
        for shelved in self.others(own) {
            let Err(block) = kept else {
                return;
            };
            kept = shelved
                .put_on_top(block)
                .or_else(|block| shelved.put_below(block));
        }
    }

    /// The boxes that are not this thread's, beginning with the next.
    fn others(&self, own: usize) -> impl Iterator<Item = &Shelved> {
        let (before, from) = self.0.boxes.split_at(own);
        from.iter().skip(1).chain(before)
    }
}

impl Shelved {
    #[inline]
    fn take_top(&self) -> Option<Box<Block>> {
        // Acquire, the other half of the Release in `put`.
        let top = self.top.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: it came from `Box::into_raw`, and it is this exchange that has taken it out.
        (!top.is_null()).then(|| unsafe { Box::from_raw(top) })
    }

    /// Hands the block back if one lies there, or none may.
    #[inline(always)]
    fn put_on_top(&self, block: Box<Block>) -> Result<(), Box<Block>> {
        if self.most == 0 {
            return Err(block);
        }
        let order = if mutant("buffer-put-relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        let block = Box::into_raw(block);
        let none = ptr::null_mut();
        match self
            .top
            .compare_exchange(none, block, order, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            // SAFETY: just made of a box, and nobody else has it.
            Err(_) => Err(unsafe { Box::from_raw(block) }),
        }
    }

    /// Hands the block back if there is no room.
    fn put_below(&self, block: Box<Block>) -> Result<(), Box<Block>> {
        let mut free = self.free.lock();
        // One lies on top.
        if free.len() + 1 >= self.most {
            return Err(block);
        }
        free.push(block);
        Ok(())
    }
}

impl Drop for Shelved {
    fn drop(&mut self) {
        drop(self.take_top());
    }
}

impl Block {
    /// Back to where it belongs; `own` is this thread's box.
    #[inline(always)]
    fn go_back(mut self: Box<Self>, own: usize) {
        match self.pool.take() {
            Some(pool) => self.go_to(pool, own),
            None => self.free(),
        }
    }

    /// The pool goes where the block goes, so that nothing is left to be cleared away if that panics.
    #[inline(always)]
    fn go_to(self: Box<Self>, pool: BufferPool, own: usize) {
        self.tenant.changed();
        if let Err(block) = pool.0.boxes[own].put_on_top(self) {
            pool.keep_below(own, block);
        }
    }

    /// It belongs nowhere.
    #[cold]
    fn free(self: Box<Self>) {
        drop(self);
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("size", &self.0.size)
            .finish_non_exhaustive()
    }
}

/// A buffer that a [`BufferPool`] lends, and that goes back there when it is dropped. It holds the bytes that were read; what it has
/// room for beyond them, only an operation fills. Its memory does not move with it.
///
/// ```
/// use proactor::{BufferPool, Proactor, net::{TcpListener, TcpStream}};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let proactor = Proactor::builder().build()?;
/// # let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
/// # let client = TcpStream::connect(&proactor, listener.local_addr()?).wait()?;
/// # let (server, _) = listener.accept().wait()?;
/// let pool = BufferPool::new(4096);
/// client.write_all("loud").wait().0?;
/// let mut bytes = server.recv_with(&pool).wait()?;
/// bytes.make_ascii_uppercase();
/// let (result, bytes) = server.write_all(bytes).wait();
/// assert_eq!((result?, &bytes[..]), (4, &b"LOUD"[..]));
/// # Ok(())
/// # }
/// ```
pub struct PooledBuf(
    /* its `drop` leaves none */ ManuallyDrop<Option<Box<Block>>>,
);

impl PooledBuf {
    /// As much memory as `bytes` need, which belongs to no pool.
    pub(crate) fn holding(bytes: &[u8]) -> Self {
        Self::of((!bytes.is_empty()).then(|| {
            Box::new(Block {
                bytes: bytes.into(),
                len: bytes.len(),
                pool: None,
                tenant: Trace::new(),
            })
        }))
    }

    #[inline]
    fn of(block: Option<Box<Block>>) -> Self {
        Self(ManuallyDrop::new(block))
    }

    /// As many bytes of it as were read.
    #[inline(always)]
    pub(crate) fn filled(mut self, count: usize) -> Self {
        if let Some(block) = &mut *self.0 {
            block.len = count.min(block.bytes.len());
        }
        self
    }
}

impl Deref for PooledBuf {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Some(block) => &block.bytes[..block.len],
            None => &[],
        }
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut *self.0 {
            Some(block) => &mut block.bytes[..block.len],
            None => &mut [],
        }
    }
}

impl Drop for PooledBuf {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0.is_none() {
            return;
        }
        // Asked first, so that what is had is handed on without a way back.
        let own = own_box();
        if let Some(block) = self.0.take() {
            block.go_back(own);
        }
    }
}

impl fmt::Debug for PooledBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PooledBuf({} bytes)", self.len())
    }
}

// SAFETY: the bytes stand in a box of their own, which is neither moved nor changed while the value is not mutably borrowed.
unsafe impl Buf for PooledBuf {
    #[inline]
    fn ptr(&self) -> *const u8 {
        match &*self.0 {
            Some(block) => block.bytes.as_ptr(),
            None => ptr::dangling(),
        }
    }
    #[inline]
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block.len)
    }
}

// SAFETY: as above; all of them are initialised always, and belong to whoever has the value.
unsafe impl BufMut for PooledBuf {
    #[inline]
    fn mut_ptr(&mut self) -> *mut u8 {
        // Of all of them, and not only of those that are filled.
        match &mut *self.0 {
            Some(block) => block.bytes.as_mut_ptr(),
            None => std::ptr::NonNull::dangling().as_ptr(),
        }
    }
    #[inline]
    fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block.bytes.len())
    }
    unsafe fn set_filled(&mut self, len: usize) {
        if let Some(block) = &mut *self.0 {
            block.len = len;
        }
    }
}

/// A buffer to come: the pool that was chosen for it, until a backend has bytes, and then what was taken from there.
pub struct LateBuf {
    /// None while there is a block, which has it.
    pool: Option<BufferPool>,
    block: PooledBuf,
}

impl LateBuf {
    #[inline]
    pub(crate) fn of(pool: &BufferPool) -> Self {
        Self {
            pool: Some(pool.clone()),
            block: PooledBuf::of(None),
        }
    }

    /// How many bytes it will have room for.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.pool.as_ref().map_or(0, BufferPool::size)
    }

    /// Takes a buffer, for an attempt; [`filled`](Self::filled) says how that ended.
    #[inline]
    pub(crate) fn bind(&mut self) -> &mut [u8] {
        if let Some(pool) = self.pool.take() {
            *self.block.0 = Some(pool.into_block());
        }
        self.block
            .0
            .as_mut()
            .map_or(&mut [], |block| &mut block.bytes[..])
    }

    /// `count` bytes came into what `bind` took. If none did, it goes back at once.
    #[inline]
    pub(crate) fn filled(&mut self, count: usize) {
        match &mut *self.block.0 {
            Some(block) if count > 0 => block.len = count.min(block.bytes.len()),
            _ => self.unbind(),
        }
    }

    #[cold]
    fn unbind(&mut self) {
        if let Some(mut block) = self.block.0.take() {
            self.pool = block.pool.take();
            if let Some(pool) = self.pool.clone() {
                block.go_to(pool, own_box());
            }
        }
    }

    /// What came; the next is to come from `pool`, which it is of.
    #[inline]
    pub(crate) fn take(&mut self, pool: &BufferPool) -> PooledBuf {
        self.pool = Some(pool.clone());
        std::mem::replace(&mut self.block, PooledBuf::of(None))
    }

    /// What came.
    #[inline]
    pub(crate) fn into_buf(self) -> PooledBuf {
        self.block
    }
}

impl fmt::Debug for LateBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LateBuf")
    }
}
