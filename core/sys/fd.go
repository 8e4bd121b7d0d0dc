// Package sys holds the system calls that package os does not offer, and the owner of a raw descriptor.
//
// Every descriptor the engine opens belongs to an [FD]. That gives three things: it is closed once, a test can ask
// what is still open, and it is listed in the [Register], from which a forked child (where no Go runs) closes what it
// inherited but must not keep.
package sys

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FD owns one file descriptor.
type FD struct {
	value atomic.Int64 // -1 once closed
	slot  int          // its place in the register
	what  string
}

// NewFD takes ownership of the open descriptor fd; what says in a word or two what it is, for leak reports.
func NewFD(fd int, what string) *FD {
	f := &FD{what: what}
	f.value.Store(int64(fd))
	f.slot = register.add(fd, what)
	return f
}

// Int is the descriptor's number, -1 when it is closed. It stays valid only while f is open.
func (f *FD) Int() int {
	if f == nil {
		return -1
	}
	return int(f.value.Load())
}

// Close closes the descriptor. Closing twice, or closing nil, does nothing.
func (f *FD) Close() error {
	if f == nil {
		return nil
	}
	fd := int(f.value.Swap(-1))
	if fd < 0 {
		return nil
	}
	register.remove(f.slot)
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close %s (descriptor %d): %w", f.what, fd, err)
	}
	return nil
}

// List puts an open descriptor that something else owns into the register. Before its owner closes it, unlist must be
// called.
func List(fd int, what string) (unlist func()) {
	slot := register.add(fd, what)
	return func() { register.remove(slot) }
}

// RegisterSize is how many descriptors the register can list. Descriptors beyond it work, but forked children
// inherit them.
const RegisterSize = 1 << 16

// fdRegister lists the engine's open descriptors in memory that C can read in a forked child.
type fdRegister struct {
	mu    sync.Mutex
	slots []int32 // fd+1, 0 for none; outside the Go heap
	used  *int32  // how many slots, the first ones, have ever been used; behind them
	what  map[int]string
	free  []int
}

var register = newRegister()

func newRegister() *fdRegister {
	const size = (RegisterSize + 1) * 4
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(fmt.Errorf("no memory for the descriptor register: %w", err))
	}
	words := int32s(mem)
	return &fdRegister{slots: words[:RegisterSize], used: &words[RegisterSize], what: map[int]string{}}
}

// add lists a descriptor; what is empty for one that is open as long as the process lives.
func (r *fdRegister) add(fd int, what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := -1
	if n := len(r.free); n > 0 {
		slot, r.free = r.free[n-1], r.free[:n-1]
	} else if *r.used < RegisterSize {
		slot = int(*r.used)
		atomic.AddInt32(r.used, 1) // before the slot is: a process may be forked in between
	} else {
		return -1
	}
	if what != "" {
		r.what[slot] = what
	}
	atomic.StoreInt32(&r.slots[slot], int32(fd)+1)
	return slot
}

func (r *fdRegister) remove(slot int) {
	if slot < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	atomic.StoreInt32(&r.slots[slot], 0)
	delete(r.what, slot)
	r.free = append(r.free, slot)
}

// Register is the memory in which the open descriptors are listed: RegisterSize int32s, each a descriptor plus one,
// or 0. Behind it is an int32 that says how many of them, the first ones, have ever been used. A forked child reads it from C.
func Register() []int32 { return register.slots }

// Open lists the engine's open descriptors, as "what (number)"; tests compare it with nothing.
func Open() []string {
	register.mu.Lock()
	defer register.mu.Unlock()
	var open []string
	for slot, what := range register.what {
		open = append(open, fmt.Sprintf("%s (%d)", what, register.slots[slot]-1))
	}
	return open
}
