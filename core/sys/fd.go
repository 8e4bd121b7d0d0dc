// Package sys holds the system calls that package os does not offer, and the owner of a raw descriptor.
//
// Every descriptor that the engine opens belongs to an [FD]. So it is closed once, tests can ask which are still open,
// and it is listed in the [Register]. A forked child, in which no Go runs, reads the register from C, and closes the
// descriptors.
package sys

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD owns one file descriptor.
type FD struct {
	value atomic.Int64 // -1 once closed
	mark  uint32       // of what it refers to
	slot  int          // its place in the register
	what  string
}

// NewFD takes ownership of the open descriptor fd. what is a word or two for reports of leaks: what the descriptor is.
func NewFD(fd int, what string) *FD {
	return NewMarkedFD(fd, Mark(fd), what)
}

// NewMarkedFD is NewFD for a descriptor whose mark was taken when it was opened. By now the program may have closed it,
// and the number may be another file's.
func NewMarkedFD(fd int, mark uint32, what string) *FD {
	f := &FD{mark: mark, what: what}
	f.value.Store(int64(fd))
	f.slot = register.add(fd, mark, what)
	return f
}

// Mark is a number that identifies the file that an open descriptor refers to, as far as device and inode do.
// goproc_mark_of in goproc.h makes the same number. It is 0 if the descriptor is not open.
func Mark(fd int) uint32 {
	var stat unix.Stat_t
	if fd < 0 || unix.Fstat(fd, &stat) != nil {
		return 0
	}
	return markOf(uint64(stat.Dev), stat.Ino)
}

func markOf(device, inode uint64) uint32 {
	return uint32((device*0x9E3779B97F4A7C15+inode)*0xD6E8FEB86659FD93>>32) | 1
}

// Ours reports whether the descriptor is open and still refers to the same file. A program may close descriptors that
// are not its own (os.closerange), and then open a file that gets the number.
func (f *FD) Ours() bool {
	fd := f.Int()
	return fd >= 0 && f.mark != 0 && Mark(fd) == f.mark
}

// Lost reports whether the program, not the engine, has closed the descriptor.
func (f *FD) Lost() bool { return f.Int() >= 0 && !f.Ours() }

// Check returns an error that wraps EBADF unless the descriptor is Ours.
func (f *FD) Check() error {
	if f.Ours() {
		return nil
	}
	return fmt.Errorf("%s (descriptor %d) is not open any more, or is another file: the program has closed it: %w", f.what, f.Int(), unix.EBADF)
}

// Int is the descriptor's number, -1 when it is closed. It stays valid only while f is open.
func (f *FD) Int() int {
	if f == nil {
		return -1
	}
	return int(f.value.Load())
}

// Close closes the descriptor, unless the program has done so. Closing twice, or closing nil, does nothing.
func (f *FD) Close() error {
	if f == nil {
		return nil
	}
	fd := int(f.value.Swap(-1))
	if fd < 0 {
		return nil
	}
	register.remove(f.slot)
	if Mark(fd) != f.mark {
		return nil // the program has closed it
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close %s (descriptor %d): %w", f.what, fd, err)
	}
	return nil
}

// forget removes a descriptor that is known to be closed from the register.
func (f *FD) forget() error {
	if f.value.Swap(-1) >= 0 {
		register.remove(f.slot)
	}
	return nil
}

// RegisterSize is how many descriptors the register can list. Descriptors beyond it work, but forked children
// inherit them.
const RegisterSize = 1 << 16

// Listed is a descriptor in the register: goproc_listed in goproc.h.
type Listed struct {
	FD   int32 // plus one; 0 for none
	Mark uint32
}

// fdRegister lists the engine's open descriptors in memory that C can read in a forked child.
type fdRegister struct {
	mu    sync.Mutex
	slots []Listed // outside the Go heap
	used  *int32   // how many of the first slots have ever been used; this number lies behind the slots
	what  map[int]string
	free  []int

	// The epoll and the eventfd of the Go runtime (netpoll.go), 0 if they are not known. They lie behind used.
	runtime *[2]int32
}

var register = newRegister()

func newRegister() *fdRegister {
	const size = (RegisterSize + 2) * int(unsafe.Sizeof(Listed{}))
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(fmt.Errorf("no memory for the descriptor register: %w", err))
	}
	slots := unsafe.Slice((*Listed)(unsafe.Pointer(unsafe.SliceData(mem))), RegisterSize+2)
	return &fdRegister{slots: slots[:RegisterSize], used: &slots[RegisterSize].FD, runtime: (*[2]int32)(unsafe.Pointer(&slots[RegisterSize+1])), what: map[int]string{}}
}

// add lists a descriptor. what is empty for a descriptor that stays open as long as the process lives.
func (r *fdRegister) add(fd int, mark uint32, what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := -1
	if n := len(r.free); n > 0 {
		slot, r.free = r.free[n-1], r.free[:n-1]
	} else if *r.used < RegisterSize {
		slot = int(*r.used)
		atomic.AddInt32(r.used, 1) // before the slot is filled: a process may be forked in between
	} else {
		return -1
	}
	if what != "" {
		r.what[slot] = what
	}
	r.slots[slot].Mark = mark
	atomic.StoreInt32(&r.slots[slot].FD, int32(fd)+1)
	return slot
}

func (r *fdRegister) remove(slot int) {
	if slot < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	atomic.StoreInt32(&r.slots[slot].FD, 0)
	delete(r.what, slot)
	r.free = append(r.free, slot)
}

// Register is the memory in which the open descriptors are listed. Behind its RegisterSize elements are two more: the
// FD of the first one says how many elements, from the first on, have ever been used; the second one has the runtime's
// two descriptors. A forked child reads all of this from C.
func Register() []Listed { return register.slots }

// Open lists the engine's open descriptors, as "what (number)"; tests compare it with nothing.
func Open() []string {
	register.mu.Lock()
	defer register.mu.Unlock()
	var open []string
	for slot, what := range register.what {
		open = append(open, fmt.Sprintf("%s (%d)", what, register.slots[slot].FD-1))
	}
	return open
}
