package sys

import (
	"fmt"
	"math"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SharedMemory is a sparse file in memory (memfd_create(2)). It has no name, needs no room in /dev/shm, and is gone
// with the last process that has it. Its size is sealed: a process that made it smaller would make others crash.
type SharedMemory struct {
	fd *FD
}

// NewSharedMemory makes a sparse memory file of the given size; pages cost nothing until they are touched.
func NewSharedMemory(what string, size int64) (*SharedMemory, error) {
	fd, err := unix.MemfdCreate("goproc-"+what, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w (for memory that processes share)", err)
	}
	owned, err := own(fd, what)
	if err != nil {
		return nil, err
	}
	m := &SharedMemory{fd: owned}
	fd = owned.Int()
	if err := truncate(fd, size); err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("ftruncate of shared memory: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("seal shared memory: %w", err)
	}
	return m, nil
}

// truncate is ftruncate(2), for which it lifts the limit of the size of files (RLIMIT_FSIZE), if the process may. The
// limit is meant for files on disks, and a sparse file takes less memory than its size says. If the process may not
// lift it, the error is EFBIG.
func truncate(fd int, size int64) error {
	limits.Lock()
	defer limits.Unlock()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil || limit.Cur >= uint64(size) {
		return unix.Ftruncate(fd, size)
	}
	if unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) != nil &&
		(limit.Max < uint64(size) || unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}) != nil) {
		return unix.EFBIG // ftruncate is not called: it would send the signal SIGXFSZ
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) }()
	return unix.Ftruncate(fd, size)
}

var limits sync.Mutex

// FD is the descriptor of the memory, for handing it on.
func (m *SharedMemory) FD() *FD { return m.fd }

// Map maps length bytes at offset, both multiples of the page size. A forked child does not inherit the mapping.
func (m *SharedMemory) Map(offset int64, length int) ([]byte, error) {
	mem, err := unix.Mmap(m.fd.Int(), offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes of shared memory: %w", length, err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("madvise of shared memory: %w", err)
	}
	return mem, nil
}

// Unmap ends a mapping that Map made.
func (m *SharedMemory) Unmap(mem []byte) {
	if mem != nil {
		_ = unix.Munmap(mem)
	}
}

// Discard gives the pages of the range back; they read as zero afterwards.
func (m *SharedMemory) Discard(offset, length int64) error {
	if err := unix.Fallocate(m.fd.Int(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length); err != nil {
		return fmt.Errorf("fallocate of shared memory: %w", err)
	}
	return nil
}

// Close closes the descriptor; mappings stay.
func (m *SharedMemory) Close() error { return m.fd.Close() }

// FutexWait sleeps while the word has the value seen: until somebody wakes it, or until patience is over. A negative
// patience is for ever. The word may lie in shared memory. The thread sleeps, not only the goroutine. So no timer of
// the runtime is used, for which it would open descriptors (see clock.go).
func FutexWait(word *uint32, seen uint32, patience time.Duration) {
	const futexWait = 0
	var timeout *unix.Timespec
	if patience >= 0 {
		t := unix.NsecToTimespec(int64(patience))
		timeout = &t
	}
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(seen), uintptr(unsafe.Pointer(timeout)), 0, 0)
}

// FutexWake wakes every thread of any process that sleeps on the word, which lies in shared memory.
func FutexWake(word *uint32) {
	const futexWake = 1
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, math.MaxInt32, 0, 0, 0)
}
